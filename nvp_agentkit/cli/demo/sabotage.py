"""The demo's sixth act: a worker is killed and its job is done once, a voter lies and is outvoted."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis
from rich.console import Console
from rich.markup import escape

from nvp_agentkit.artifacts.content import uri_of
from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.demo.acts import DOMAIN, Dataset, Frames, HeldOut, ask, held_out, title
from nvp_agentkit.cli.demo.lineage import with_all_votes
from nvp_agentkit.cli.inspect import VERDICTS
from nvp_agentkit.client import AgentClient, Forecast
from nvp_agentkit.client.job import Job
from nvp_agentkit.client.units import with_units
from nvp_agentkit.embedded.supervisor import Supervisor
from nvp_agentkit.embedded.worker import WorkerSpec
from nvp_agentkit.energy.accounts import joules
from nvp_agentkit.energy.kernel import cpu_s_beside
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.errors import NvpError, QuorumAbstained
from nvp_agentkit.lineage import queries
from nvp_agentkit.lineage.answers import Ballot
from nvp_agentkit.lineage.graph import Graph
from nvp_agentkit.messages import ArrayRef, JobCompleted, JobProgressed
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import names
from nvp_agentkit.streams.health import workers

LIAR = 2
VOTER, HONEST, SABOTEUR = f"voter-{LIAR}", f"shadow-{LIAR}", f"saboteur-{LIAR}"
QUESTIONS = 6
JOB_BUDGET_J = 60.0
JOB = {"trajectories": 8, "frames": 81, "size": 32}  # two seconds of work: time enough to die in
TITLE = "Sabotage: a worker is killed, a voter lies"


@dataclass(frozen=True)
class Stage:
    """What the act is played on: a stack of the demo's own."""

    nvp: AgentClient
    redis: Redis
    running: Supervisor
    console: Console

    @property
    def settings(self) -> Settings:
        return self.running.settings

    def say(self, line: str) -> None:
        self.console.print(f"   {line}", soft_wrap=True)


def leave_out(console: Console) -> None:
    """The act on a stack that is somebody else's."""
    title(console, 6, TITLE)
    console.print("   left out: others may be at work on this stack, and `nvp demo` breaks none but its own")


async def play(stage: Stage, dataset: Dataset, trained: JobCompleted, seed: int) -> float:
    """Act six. Returns the CPU-seconds of the compute child that was killed: no rusage will tell them."""
    title(stage.console, 6, TITLE)
    frames = await held_out(stage.nvp, dataset, trained, questions=QUESTIONS)
    before = await _ask_all(stage.nvp, dataset, frames)
    # Beside each other, for both take the time that a process needs to start.
    lying = asyncio.create_task(_replace(stage, HONEST, deployment.saboteur(LIAR, "scale", stage.settings)))
    try:
        unseen_cpu_s = await _kill(stage, seed)
        await lying
    finally:
        lying.cancel()
        await asyncio.gather(lying, return_exceptions=True)
    stage.say(f"{SABOTEUR} in the place of {HONEST} scales its forecasts by 1.5 and signs that with the key of {VOTER}")
    after = await _ask_all(stage.nvp, dataset, frames)
    await _say_what_came_of_the_lie(stage, frames, before, after)
    await stage.running.replace(SABOTEUR, deployment.worker(HONEST, stage.settings))
    return unseen_cpu_s


async def _replace(stage: Stage, name: str, spec: WorkerSpec) -> None:
    await stage.running.replace(name, spec)
    await stage.running.ready(timeout_s=deployment.READY_S)


async def _ask_all(nvp: AgentClient, dataset: Dataset, frames: HeldOut) -> dict[int, Forecast]:
    """What follows each window of ``frames``, by the window's place, as far as the voters agree on it."""
    answers = {}
    for at in range(len(frames.filled) - frames.context):
        with suppress(QuorumAbstained):
            answers[at] = await ask(nvp, dataset, frames.filled[at : at + frames.context])
    return answers


async def _kill(stage: Stage, seed: int) -> float:
    """Kill -9 of the worker that has a job in its hands, and what becomes of the job."""
    job = await stage.nvp.simulate(DOMAIN, budget_j=JOB_BUDGET_J, seed=seed, **JOB)
    (victim,) = [one.pid for one in await workers(stage.redis) if one.name == "training"]
    line = await _first_step(job)
    unseen_cpu_s = cpu_s_beside(victim)
    os.kill(victim, signal.SIGKILL)
    killed_s = time.monotonic()
    stage.say(f"{line.phase}, step {line.step} of {line.steps}: kill -9 {victim}")
    # The story from its beginning: the last attempt starts, at step 0, from what was charged for the one before.
    dead_mj = [told.used_mj async for told in job if told.step == 0][-1]
    stage.say(f"the job is done {time.monotonic() - killed_s:.1f} s after that")
    await _say_what_was_done_once(stage, job, dead_mj)
    return unseen_cpu_s


async def _first_step(job: Job) -> JobProgressed:
    async for line in job:
        if line.step:
            return line
    raise NvpError("the job ended before its worker could be killed")


async def _say_what_was_done_once(stage: Stage, job: Job, dead_mj: int) -> None:
    done = await job.result()
    grant = await Ledger(stage.redis).grant(stage.nvp.account, job.id)
    if done.dataset is None or grant is None:
        raise NvpError("the job ended without a dataset, or was never paid for")
    replies: Any = await stage.redis.xrange(names.replies(stage.nvp.account))
    answers = sum(fields[b"replyto"] == job.id.encode() for _, fields in replies)
    await stage.nvp.recorded()
    async with Graph.connect(stage.settings) as graph:
        origin = await queries.ancestry(graph, f"dataset:{done.dataset.digest}")
    runs = [run for run in origin.labelled("Run") if run["job_id"] == job.id]
    attempts = ", ".join(f"attempt {run['attempt']}" for run in runs)
    stage.say(f"answers: {answers}; runs in the graph that made its dataset: {len(runs)} ({attempts})")
    stage.say(
        f"charged {joules(grant.paid_mj)} of {joules(grant.granted_mj)} granted: "
        f"{joules(dead_mj)} for the attempt that was killed, {joules(grant.paid_mj - dead_mj)} for the one that ended"
    )


@dataclass(frozen=True)
class Case:
    """One question to an ensemble with a liar in it: what came, what was certified, what each voter signed."""

    truth: Frames
    honest: Forecast
    certified: Forecast
    votes: dict[str, NDArray[Any]]


async def _say_what_came_of_the_lie(
    stage: Stage, frames: HeldOut, before: dict[int, Forecast], after: dict[int, Forecast]
) -> None:
    ballots = await _on_record(stage, after)
    said = Counter(VERDICTS[votes[VOTER].dissent] if VOTER in votes else "is silent" for votes in ballots.values())
    told = ", ".join(f"{VOTER} {what} {count} times" for what, count in said.items())
    followed = frames.observed[frames.context :]
    stage.say(f"asked {len(followed)} times, certified {len(after)} times; on record of these: {told}")
    cases = [
        Case(followed[at], before[at], after[at], await _arrays(stage.nvp, after[at], ballots[at]))
        for at in before.keys() & after.keys()
    ]
    if heard := [case for case in cases if VOTER in case.votes]:
        _say_errors(stage, heard)


async def _on_record(stage: Stage, answers: dict[int, Forecast]) -> dict[int, dict[str, Ballot]]:
    """The votes on each answer as the graph has them, by voter."""
    async with Graph.connect(stage.settings) as graph:
        found = {
            at: await with_all_votes(stage.nvp, graph, answer.request_id, len(answer.models))
            for at, answer in answers.items()
        }
    return {at: {ballot.voter: ballot for ballot in one.ballots} for at, one in found.items()}


async def _arrays(nvp: AgentClient, answer: Forecast, ballots: dict[str, Ballot]) -> dict[str, NDArray[Any]]:
    """What each voter signed: the graph knows the digest, and by that it is kept."""
    found = {}
    for voter, ballot in ballots.items():
        if ballot.value_digest is not None:
            uri, shape = uri_of(ballot.value_digest), answer.mean.shape
            ref = ArrayRef(shape=shape, dtype="float32", units=answer.units, digest=ballot.value_digest, uri=uri)
            found[voter] = await nvp.artifacts.get_array(ref)
    return found


def _say_errors(stage: Stage, cases: list[Case]) -> None:
    """The point of a quorum: what was certified against what a mean of all votes would have been."""
    certificate = cases[0].certified.certificate
    if certificate is None:
        raise NvpError("a quorum answer without a certificate")
    rule = certificate.verify().rule
    apart = _rms(case.votes[VOTER] - case.certified.mean for case in cases) / rule.spread
    stage.say(f"its forecasts lie {apart:.1f} spreads from the certified ones, the rule's limit is {rule.limit:.2f}")
    before = _rms(case.honest.mean - case.truth for case in cases)
    after = _rms(case.certified.mean - case.truth for case in cases)
    plain = _rms(np.mean(list(case.votes.values()), axis=0) - case.truth for case in cases)
    stage.say(
        f"RMS error: certified [bold]{after:.3g}[/] (before the lie {before:.3g}), "
        f"a plain mean of the votes {with_units(f'[bold]{plain:.3g}[/]', escape(rule.units))}"
    )


def _rms(errors: Iterable[NDArray[Any]]) -> float:
    return float(np.sqrt(np.nanmean(np.square(np.stack(list(errors))))))
