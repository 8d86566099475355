"""Votes that lie: what is not signed by whom it names, for what was asked, counts for nothing and harms nobody.

And what is signed by whom it names, and wrong, is outvoted and on record.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from nvp_agentkit.cli import deployment
from nvp_agentkit.embedded.supervisor import Supervisor
from nvp_agentkit.ensemble import load_signer, open_vote, sign_vote
from nvp_agentkit.errors import InvalidMessage, StackError, UnknownModel
from nvp_agentkit.messages import (
    Event,
    LineageRecorded,
    PredictionAbstained,
    PredictionCertified,
    VoteCast,
    decode,
    new_event,
)
from nvp_agentkit.streams import names, publish
from nvp_agentkit.streams.health import workers
from nvp_agentkit.workers.saboteur import FAULTS, FaultyHost, require_own_stack


def forged(court, vote: Event, **lies: object) -> Event:
    """``vote`` as an attacker would send it: the claims beside the envelope, or the envelope, are not its voter's."""
    return new_event(vote.payload.model_copy(update=lies), source="nvp:worker:mallory", deadline=vote.deadline)


async def test_what_is_said_beside_a_signature_is_nobodys_word(court, seated, request_of) -> None:
    await seated()
    asked = court.asked(request_of())
    casts = list(map(court.cast, await court.votes(asked)))
    junk = [
        forged(court, casts[0], record=f"sha256:{'0' * 64}"),  # of an ensemble that nobody knows
        forged(court, casts[0], request_digest=f"sha256:{'0' * 64}"),
        forged(court, casts[0], envelope="{}"),
        forged(court, casts[0], envelope=None, failed="out of memory"),
        forged(court, casts[0], envelope=_signed_by(court, "voter-2", casts[0])),
        forged(court, casts[0], voter="voter-9"),
    ]
    for event in junk:
        with suppress(UnknownModel):  # the consumer forgets such a vote
            await court.count(event)
    await court.count(casts[1], casts[2])
    (said,) = await court.replies(asked)
    assert isinstance(said, PredictionCertified)


def _signed_by(court, voter: str, cast: Event) -> str:
    """The vote in ``cast``, signed by somebody else."""
    vote = open_vote(cast.payload.envelope, court.keys)
    return sign_vote(vote, load_signer(court.system.settings.keys_dir, voter)).encode().decode()


async def test_a_voter_that_says_two_things_counts_for_none(court, seated, request_of, field: np.ndarray) -> None:
    await seated()
    asked = court.asked(request_of())
    casts = list(map(court.cast, await court.votes(asked)))
    vote = open_vote(casts[0].payload.envelope, court.keys)
    other = vote.model_copy(update={"issued_at_ms": vote.issued_at_ms + 1})
    envelope = sign_vote(other, load_signer(court.system.settings.keys_dir, "voter-0")).encode().decode()
    said = await court.count(casts[0], forged(court, casts[0], envelope=envelope), casts[1], casts[2])
    assert court.bench.said(said).agreed == ("voter-1", "voter-2")


async def test_votes_that_nobody_can_judge_end_in_an_abstention_and_hold_up_no_other_case(
    court, seated, request_of
) -> None:
    await seated()
    await court.votes(court.asked(request_of()))
    lost, sound = (court.asked(request_of(), within_s=2.0) for _ in range(2))
    nobodys = VoteCast(
        request_id=lost.request_id,
        request_digest=f"sha256:{'1' * 64}",
        record=f"sha256:{'2' * 64}",
        voter="voter-0",
        failed="whatever",
    )
    with pytest.raises(UnknownModel):
        await court.count(new_event(nobodys, source="nvp:worker:mallory", deadline=lost.deadline))
    await court.count(court.cast(await court.vote(sound, "voter-0")))
    async with court.deadlines_kept():
        assert isinstance(await court.told(lost), PredictionAbstained)
        assert isinstance(await court.told(sound), PredictionAbstained)


async def test_a_vote_on_an_id_that_no_request_can_have_is_not_put_on_file(court, seated, request_of) -> None:
    await seated()
    cast = court.cast(await court.vote(court.asked(request_of()), "voter-0"))
    for odd in ("", "a" * 129):
        with pytest.raises(InvalidMessage, match="request_id"):
            await court.count(cast.model_copy(update={"data": cast.data | {"request_id": odd}}))
    assert await court.system.redis.zcard(names.key(court.bench.account, "deadlines")) == 0


async def test_whatever_its_model_says_wrongly_the_voter_is_outvoted(court, seated, request_of) -> None:
    await seated()
    for fault in FAULTS:
        court.hosts["voter-2"] = FaultyHost("voter-2", court.system, fault)
        asked = court.asked(request_of())
        casts = map(court.cast, await court.votes(asked, ("voter-2", "voter-0", "voter-1")))
        said = court.bench.said(await court.count(*casts))
        assert said.agreed == ("voter-0", "voter-1"), fault
        # What is no number its own process does not sign.
        assert (said.dissent, said.missing) == (((), ("voter-2",)) if fault == "nan" else (("voter-2",), ())), fault


async def test_a_process_that_scales_its_forecast_and_signs_it_is_outvoted_and_on_record(
    court, seated, request_of, redis
) -> None:
    await seated()
    bench, settings = court.bench, court.system.settings
    honest = [deployment.worker(name, settings) for name in ("inference", "shadow-1", "tally")]
    specs = [*honest, deployment.saboteur(2, "scale", settings)]
    async with Supervisor(settings, specs, on_event=lambda event: None) as stack:
        await stack.ready(timeout_s=60)
        states = {one.name: one for one in await workers(redis)}
        assert "fault injected on purpose: scale" in states["saboteur-2"].detail
        asked = court.asked(request_of())
        os.kill(states["shadow-1"].pid, signal.SIGSTOP)  # until the lie is there: later it would not be counted
        await publish(redis, bench.account, "ensemble", asked.event)
        async with asyncio.timeout(30):
            while await redis.hlen(names.key(bench.account, f"case:{asked.request_id}")) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        os.kill(states["shadow-1"].pid, signal.SIGCONT)
        said = await court.told(asked)
        elsewhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
        with pytest.raises(StackError, match=r"only on the stack of the supervisor that started it"):
            require_own_stack(elsewhere)
    assert isinstance(said, PredictionCertified)
    assert (said.agreed, said.dissent) == (("voter-0", "voter-1"), ("voter-2",))
    entries = await redis.xrange(names.key(bench.account, "lineage"))
    facts = [decode(fields[b"event"]).payload for _, fields in entries]
    votes = [node for fact in facts if isinstance(fact, LineageRecorded) for node in fact.nodes if node.label == "Vote"]
    verdicts = {node.properties["voter"]: node.properties["dissent"] for node in votes if "dissent" in node.properties}
    assert verdicts == {"voter-0": False, "voter-1": False, "voter-2": True}


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("nvp_agentkit.workers", ["saboteur-2"], "no worker 'saboteur-2'"),
        ("nvp_agentkit.workers.saboteur", ["saboteur-2", "scale"], "no stack runs on data folder"),
        ("nvp_agentkit.workers.saboteur", ["saboteur-2", "gossip"], "FAULT is one of scale, shift, noise, nan"),
    ],
)
def test_no_saboteur_comes_by_accident(module: str, arguments: list[str], words: str, tmp_path: Path) -> None:
    environment = {**os.environ, "NVP_DATA_DIR": str(tmp_path), "NVP_REDIS_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, words in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr
