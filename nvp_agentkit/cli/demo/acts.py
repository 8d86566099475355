"""What each act does and shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from nvp_agentkit.arrayfile import file_and_array
from nvp_agentkit.cli.atlas.looking import meta
from nvp_agentkit.cli.demo.options import Options
from nvp_agentkit.cli.inspect import short
from nvp_agentkit.cli.picture import Origin, draw, origin_of
from nvp_agentkit.cli.watching import joules_so_far, watch
from nvp_agentkit.client import AgentClient, Forecast
from nvp_agentkit.client.units import in_units
from nvp_agentkit.energy.accounts import joules
from nvp_agentkit.energy.ledger import Ledger
from nvp_agentkit.errors import InvalidInput, NvpError
from nvp_agentkit.messages import JobCompleted, JobProgressed, ObjectRef

DOMAIN = "plasma_physics"
TRAJECTORIES, FRAMES = 12, 41
DATA_BUDGET_J = 120.0
FORECAST_BUDGET_J = 5.0

Frames = NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """Sequences in the artifact store."""

    domain: str
    ref: ObjectRef
    units: str
    frames: int
    origin: Origin


@dataclass(frozen=True)
class HeldOut:
    """Frames that no member has seen: as they were observed, NaN elsewhere, and as they are asked about.

    ``context``: how many a question shows, before the one that is asked for.
    """

    observed: Frames
    filled: Frames
    context: int


@dataclass(frozen=True)
class Shown:
    """A forecast, the last frame before it, what really came, and where both were observed."""

    forecast: Forecast
    last: Frames
    truth: Frames
    there: NDArray[np.bool_]


def title(console: Console, number: int, text: str) -> None:
    console.print(f"\n[bold cyan]{number}[/] [bold]{text}[/]")


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


async def data(nvp: AgentClient, options: Options, console: Console) -> Dataset:
    """Act two: sequences from the equation, or from the user's file."""
    if options.data is None:
        title(console, 2, "Plasma turbulence from its equation (modified Hasegawa-Wakatani)")
        domain = DOMAIN
        job = await nvp.simulate(
            domain,
            budget_j=DATA_BUDGET_J,
            trajectories=TRAJECTORIES,
            frames=FRAMES,
            size=options.size,
            seed=options.seed,
        )
    else:
        title(console, 2, f"Your field: {escape(options.data)}")
        path, array = file_and_array(options.data)
        domain = "user_field"
        job = await nvp.import_file(
            path, domain=domain, array=array, units=options.units, budget_j=DATA_BUDGET_J
        )
    done = await watch(job, console, joules_so_far)
    ref, about = done.dataset, done.summary
    if ref is None:
        raise NvpError("the job ended without a dataset")
    console.print(
        f"   {about['trajectories']} x {about['frames']} frames of {about['height']}x{about['width']} cells "
        f"{escape(in_units(str(about['units'])))}, "
        f"{ref.bytes / 1e6:.1f} MB, {short(ref.digest)}, {joules(done.energy.mj)} {done.energy.method}"
    )
    if about["masked_cells"]:
        console.print(f"   {about['masked_cells']:,} cells have no value: a mask, left out of loss and score")
    facts = (await meta(nvp.artifacts, ref))["provenance"]
    return Dataset(domain, ref, str(about["units"]), int(about["frames"]), origin_of(facts))


async def train(nvp: AgentClient, dataset: Dataset, options: Options, console: Console) -> JobCompleted:
    """Act three: an ensemble of three within a budget of joules."""
    title(console, 3, f"Train three members within {options.budget_j:g} J")
    job = await nvp.train(dataset.domain, data=dataset.ref, budget_j=options.budget_j, seed=options.seed)
    done = await watch(job, console, _training_line)
    table = Table("voter", "parameters", "steps", "VRMSE", "skill", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for member in done.members:
        table.add_row(
            member.voter + (" (champion)" if member is done.members[0] else ""),
            f"{member.parameters:,}",
            str(member.steps),
            f"{member.vrmse:.4f}",
            f"{member.skill:+.3f}",
        )
    for name, vrmse in sorted(done.baselines.items(), key=lambda item: item[1]):
        table.add_row(f"[dim]{name}[/]", "", "", f"[dim]{vrmse:.4f}[/]", "")
    console.print(indented(table))
    best = min(done.baselines, key=lambda name: done.baselines[name])
    champion = done.members[0]
    console.print(
        f"   held out {done.summary['held_out_by']}: champion's skill over the best trivial forecast ({best}) "
        f"[bold]{champion.skill:+.3f}[/]; 90% interval covers {100 * float(done.summary['coverage_90']):.0f}%, "
        f"the total is off by {100 * float(done.summary['budget_error_true']):.2g}%"
    )
    if alike := [f"{found:.2f}" for name, found in done.summary.items() if name.startswith("error_correlation_")]:
        console.print(f"   errors of two members correlate by {', '.join(alike)} (1: both make one mistake)")
    console.print(
        f"   {joules(done.energy.mj)} of {options.budget_j:g} J used, {done.energy.method} "
        f"({joules(done.energy.lo_mj)} to {joules(done.energy.hi_mj)}), {done.seconds:.0f} s"
    )
    if done.summary["service"] != "champion":
        because = escape(str(done.summary["service_because"]))
        console.print(f"   no better than what serves ({because}), and promoted by force")
        await nvp.promote(dataset.domain, str(done.summary["ensemble"]), force=True, reason="the demo goes on with it")
    return done


async def quorum(
    nvp: AgentClient, dataset: Dataset, trained: JobCompleted, options: Options, console: Console
) -> Shown:
    """Act four: a forecast that three processes must agree on, and its proof."""
    title(console, 4, "Ask for a forecast by quorum")
    frames = await held_out(nvp, dataset, trained, questions=1)
    forecast = await ask(nvp, dataset, frames.filled[: frames.context])
    console.print(f"   {escape(str(forecast))}")
    certificate = forecast.certificate
    if certificate is None:
        raise NvpError("a quorum answer without a certificate")
    folder = options.settings.data_dir / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    path = certificate.save(folder / "certificate.json")
    console.print(f"   nvp verify {shown(path)}\n   [green]valid[/]: {certificate.verify().text}", soft_wrap=True)
    compared = slice(frames.context - 1, frames.context + 1)
    last, truth = frames.filled[compared]
    return Shown(forecast, last, truth, np.logical_and(*np.isfinite(frames.observed[compared])))


async def held_out(nvp: AgentClient, dataset: Dataset, trained: JobCompleted, *, questions: int) -> HeldOut:
    """As many windows, each with the frame that came after it (fewer at the end)."""
    trajectory, first = int(trained.summary["held_out_trajectory"]), int(trained.summary["held_out_frame"])
    left = dataset.frames - first
    context = min(int(trained.summary["context_frames"]), left - 1)
    count = min(context + questions, left)
    observed, filled = [
        await nvp.frames(dataset.ref, trajectory=trajectory, first=first, count=count, filled=fill)
        for fill in (False, True)
    ]
    return HeldOut(observed, filled, context)


async def ask(nvp: AgentClient, dataset: Dataset, frames: Frames) -> Forecast:
    """The frame after ``frames``, by quorum."""
    return await nvp.predict(
        frames, domain=dataset.domain, units=dataset.units, assurance="quorum", budget_j=FORECAST_BUDGET_J
    )


async def refusals(nvp: AgentClient, redis: Redis, dataset: Dataset, options: Options, console: Console) -> None:
    """Act five: three requests that are told no, in words."""
    title(console, 5, "What is refused")
    frames = await nvp.frames(dataset.ref, count=2, filled=True)
    free_j = (await Ledger(redis).balance(nvp.account)).free_mj / 1000
    broken = frames.copy()
    broken[-1, 3, 4] = np.nan

    async def small() -> None:
        await (await nvp.train(dataset.domain, data=dataset.ref, budget_j=0.5)).result()

    attempts = (
        (
            "more joules than the account has",
            nvp.predict(
                frames, domain=dataset.domain, units=dataset.units, assurance="quorum", budget_j=round(free_j + 1000)
            ),
        ),
        ("a budget that buys no useful epoch", small()),
        (
            "a field with NaN",
            nvp.predict(broken, domain=dataset.domain, assurance="quorum", budget_j=FORECAST_BUDGET_J),
        ),
    )
    for what, attempt in attempts:
        try:
            await attempt
        except NvpError as error:
            console.print(f"   {what}\n     [red]{error.code}[/]: {escape(str(error))}", soft_wrap=True)
        else:
            raise InvalidInput(f"{what} was not refused")


def picture(dataset: Dataset, answer: Shown, options: Options) -> Path:
    """Now, what came, what was forecast, the error and the stated uncertainty, as one PNG; where it is."""
    path = options.settings.data_dir / "demo" / "forecast.png" if options.keep else Path.cwd() / "nvp-demo.png"
    title = f"{dataset.domain}, one frame ahead, certified by quorum"
    draw(
        path, answer.last, answer.forecast, title=title, truth=answer.truth, valid=answer.there, origin=dataset.origin
    )
    return path


def _training_line(line: JobProgressed) -> str:
    parts = [f"{line.used_mj / 1000:.0f} of {line.granted_mj / 1000:.0f} J {line.method}"]
    if line.loss is not None:
        parts.append(f"loss {line.loss:.4f}")
    if line.skill is not None:
        parts.append(f"skill {line.skill:+.3f} over {line.baseline}")
    if line.eta_s is not None:
        parts.append(f"{line.eta_s:.0f} s left")
    return ", ".join(parts)


def indented(table: Table) -> Padding:
    """A table in line with the text around it."""
    return Padding(table, (0, 0, 0, 3))
