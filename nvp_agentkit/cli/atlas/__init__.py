"""``nvp atlas``: the catalogue of field sequences. Make them, bring them in, look at them, judge forecasts by them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nvp_agentkit.cli import deployment, extras
from nvp_agentkit.cli.options import SIMULATED, AsJson, DataDir, say_json

if TYPE_CHECKING:
    from nvp_agentkit.cli.atlas.session import Order

HELP = """Keep field sequences: make, import, list, evaluate.

Works at the running stack, or at one that is started for the command and ends with it.

[dim]Example:[/dim] nvp atlas import rain.nc --domain rain && nvp atlas evaluate rain
"""
app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help=HELP)

Dataset = Annotated[
    str, typer.Argument(help="A domain (its newest dataset), or the beginning of a digest.", metavar="DATASET")
]
Account = Annotated[
    str | None,
    typer.Option(help="Who pays.", metavar="NAME", show_default="NVP_ACCOUNT, the only one here, else `atlas`"),
]
Variant = Annotated[
    str | None,
    typer.Option(help="Of the equation, such as `forced` of turbulence_2d.", metavar="NAME", show_default="the first"),
]
Budget = Annotated[float, typer.Option("--budget-j", help="Joules it may cost.", metavar="J")]


@app.command("import")
def bring_in(
    file: Annotated[str, typer.Argument(help="A field, (T, H, W) or (N, T, H, W).", metavar="FILE[:ARRAY]")],
    domain: Annotated[str, typer.Option(help="What the field is of; a name of your own.", metavar="NAME")],
    units: Annotated[str, typer.Option(help="Units of the values; 1: those that the file names, if it does.")] = "1",
    dt_s: Annotated[
        float | None, typer.Option("--dt-s", help="Seconds between frames.", metavar="S", show_default="the file's")
    ] = None,
    dx_m: Annotated[
        float | None, typer.Option("--dx-m", help="Metres between cells.", metavar="M", show_default="the file's")
    ] = None,
    budget_j: Budget = 20.0,
    account: Account = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring in a field of your own; NaN is a mask.

    [dim]Examples:[/dim] nvp atlas import rain.nc --domain rain  ·  nvp atlas import radar.npz:rain_mm_h --domain rain
    --units mm/h
    """
    extras.need("graph")
    from nvp_agentkit.cli.atlas import making, session, words

    order = session.Order(deployment.settings_for(data_dir), account, budget_j)
    done = session.run(making.bring_in(order, file, domain, units=units, dt_s=dt_s, dx_m=dx_m))
    if as_json:
        say_json(words.made_document(done, domain))
        return
    typer.echo("\n".join([*words.made(done, domain), f"Next: nvp atlas evaluate {domain}"]))


@app.command("make")
def make(
    domain: Annotated[
        str | None, typer.Argument(help=f"One of {', '.join(SIMULATED)}.", metavar="DOMAIN", show_default=False)
    ] = None,
    variant: Variant = None,
    trajectories: Annotated[int, typer.Option(min=1, max=2048, help="Independent runs.", metavar="N")] = 12,
    frames: Annotated[int, typer.Option(min=4, max=4096, help="Frames of each.", metavar="T")] = 41,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Cells a side.", metavar="S")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal data.", metavar="K")] = 0,
    reference: Annotated[
        bool, typer.Option("--reference", help="The pinned task that models are compared on, all splits of it.")
    ] = False,
    budget_j: Annotated[
        float | None,
        typer.Option("--budget-j", help="Joules each job may cost.", metavar="J", show_default="100; reference 2000"),
    ] = None,
    account: Account = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make sequences from an equation.

    In jobs of four trajectories, so that several machines fill one atlas and what was interrupted goes on where it was.
    With --reference instead of DOMAIN: plasma turbulence of 256x256 cells, 14 trajectories of 101 frames in three
    datasets, about ten minutes on two cores; says of each whether it has the bytes that were pinned.

    [dim]Example:[/dim] nvp atlas make plasma_physics --trajectories 12 --frames 41 --size 64 --seed 0
    """
    extras.need("graph")
    from nvp_agentkit.cli.atlas import making, session, words
    from nvp_agentkit.energy.accounts import joules
    from nvp_agentkit.errors import InvalidInput

    if (domain is None) != reference or (reference and variant is not None):
        raise InvalidInput("name a DOMAIN, or ask for --reference instead; nvp atlas make --help names them")
    order = session.Order(deployment.settings_for(data_dir), account, budget_j or (2000.0 if reference else 100.0))
    if domain is None:
        _make_reference(order, as_json=as_json)
        return
    made = session.run(making.make(order, making.shards(domain, trajectories, frames, size, seed, variant)))
    dataset = f"dataset:{made.ref.digest}"
    if as_json:
        say_json({"id": dataset, "domain": domain, "uri": made.ref.uri, "bytes": made.ref.bytes, "jobs": made.jobs,
                  "jobs_done_before": made.there, "mj": made.mj})  # fmt: skip
        return
    typer.echo(f"{words.named(domain, variant)}: {trajectories} x {frames} frames of {size}x{size} cells, "
               f"{made.ref.bytes / 1e6:.1f} MB")  # fmt: skip
    typer.echo(f"{dataset}\n{made.jobs} jobs, {made.there} of them done before; {joules(made.mj)}")
    typer.echo(f"Next: nvp atlas evaluate {domain}")


def _make_reference(order: Order, *, as_json: bool) -> None:
    from nvp_agentkit.cli.atlas import making, session
    from nvp_agentkit.reference_task import SPLIT_NAMES

    made = session.run(making.each(order, making.reference()))
    told = {
        split: {"id": f"dataset:{ref.digest}", "bytes": ref.bytes, "pinned": making.as_pinned(split, ref)}
        for split, ref in zip(SPLIT_NAMES, made, strict=True)
    }
    if as_json:
        say_json(told)
        return
    for split, about in told.items():
        typer.echo(f"{split}: {about['id']}, {about['pinned']}")


@app.command("list")
def every(
    parts: Annotated[bool, typer.Option("--parts", help="Those as well that were joined into others.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the datasets, the newest first.

    [dim]Example:[/dim] nvp atlas list
    """
    extras.need("graph")
    from nvp_agentkit.cli.atlas import looking, session, words
    from nvp_agentkit.cli.screen import console, tabulate

    found = [
        one for one in session.run(looking.entries(deployment.settings_for(data_dir))) if parts or not one.part_of
    ]
    if as_json:
        say_json({"datasets": [words.document(one) for one in found]})
    elif found:
        tabulate(console(), words.table(found))
    else:
        typer.echo("no dataset yet; nvp atlas import FILE --domain NAME, or nvp atlas make DOMAIN")


@app.command("show")
def show(dataset: Dataset, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Say what is known of a dataset: meaning, origin, cost.

    [dim]Example:[/dim] nvp atlas show rain
    """
    extras.need("graph")
    from nvp_agentkit.cli.atlas import looking, session, words

    found, meta, statistics = session.run(looking.entry(deployment.settings_for(data_dir), dataset))
    if as_json:
        say_json(words.document(found) | {"meta": meta, "statistics": statistics})
        return
    typer.echo("\n".join(words.lines(found, meta, statistics)))


@app.command("evaluate")
def evaluate(
    dataset: Dataset,
    out: Annotated[
        Path | None, typer.Option(help="The picture, .png.", metavar="FILE", show_default="DATASET-forecasts.png")
    ] = None,
    budget_j: Budget = 100.0,
    account: Account = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Score every trivial forecaster on a dataset: table and picture.

    On the part that training would not see, one frame ahead; the best is what a model has to beat.

    [dim]Example:[/dim] nvp atlas evaluate rain
    """
    extras.need("graph", "plot")
    from nvp_agentkit.cli.atlas import evaluating, session
    from nvp_agentkit.cli.screen import console, say, tabulate

    path = evaluating.picture_path(out, dataset, "-forecasts")
    order = session.Order(deployment.settings_for(data_dir), account, budget_j)
    found = session.run(evaluating.evaluate(order, dataset))
    found.draw(path)
    if as_json:
        say_json(found.document(path))
        return
    screen = console()
    tabulate(screen, found.table())
    for fact in (*found.facts(), f"picture: {path}"):
        say(screen, fact)


@app.command("check")
def check(
    dataset: Dataset,
    budget_j: Budget = 20.0,
    account: Account = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Look whether a dataset is whole and can be learnt from honestly.

    The bytes have their digest, every value is finite, and no frame of the test part is among those that teach.

    [dim]Example:[/dim] nvp atlas check rain
    """
    extras.need("graph")
    from nvp_agentkit.cli.atlas import looking, session

    order = session.Order(deployment.settings_for(data_dir), account, budget_j)
    found, done = session.run(looking.check(order, dataset))
    if as_json:
        say_json({"id": found.dataset.id, "domain": found.domain, "whole": True, **done.summary})
        return
    about = done.summary
    typer.echo(f"{found.dataset.id}: its bytes, all values finite, {about['masked_cells']:,} cells masked")
    typer.echo(
        f"split {about['split']}: {about['train']} frames teach, {about['validation']} choose, {about['test']} judge; "
        "none is in two parts"
    )


@app.command("plot")
def plot(
    dataset: Dataset,
    trajectory: Annotated[int, typer.Option(help="Which of its trajectories.", metavar="N")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="The picture, .png; the film stands beside it.", metavar="FILE",
                                  show_default="DATASET.png")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Draw a dataset: frames, spectrum, total, entropy; and a film.

    As a PNG, and beside it an animated GIF of the same name.

    [dim]Example:[/dim] nvp atlas plot rain --trajectory 0
    """
    extras.need("graph", "plot")
    from nvp_agentkit.cli.atlas import evaluating, plotting, session

    path = evaluating.picture_path(out, dataset, "")
    found = session.run(plotting.glance(deployment.settings_for(data_dir), dataset, trajectory))
    found.draw(path)
    found.film(film := path.with_suffix(".gif"))
    if as_json:
        say_json({"id": found.entry.dataset.id, "trajectory": trajectory, "picture": str(path), "film": str(film)})
        return
    typer.echo(f"{found.title}\npicture: {path}\nfilm: {film}")


@app.command("like")
def like(
    dataset: Dataset,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many.", metavar="N")] = 10,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Find the datasets that look most like one.

    By descriptors of 64 numbers: spectrum, distribution, memory, entropy, dissipation. 0 is alike in all of them.

    [dim]Example:[/dim] nvp atlas like rain
    """
    extras.need("graph")
    from nvp_agentkit.cli.atlas import looking, session, words
    from nvp_agentkit.cli.screen import console, tabulate

    found, near = session.run(looking.like(deployment.settings_for(data_dir), dataset, count))
    if as_json:
        alike = [words.document(one) | {"distance": distance} for one, distance in near]
        say_json({"id": found.dataset.id, "domain": found.domain, "like": alike})
    elif near:
        tabulate(console(), words.table([one for one, _ in near], [distance for _, distance in near]))
    else:
        typer.echo("no other dataset with a descriptor")
