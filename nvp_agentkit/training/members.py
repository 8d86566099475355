"""The ensemble's recipe: a champion and members that differ in seed, data order and width.

Voters that share every choice share every mistake. These share data and method, nothing random and no width,
and the champion, whose answer is the one forecast that `predict` pays for, gets the largest part. Narrower members are
trained and served in the champion's shape (`model.width`): one program is compiled for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.fields.sequence import SMALL_SIDE, FieldMeta, SequenceSet
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.training.checkpoint import Checkpoint, Saver
from nvp_agentkit.training.evaluate import Forecasts
from nvp_agentkit.training.examples import Examples
from nvp_agentkit.training.member_config import MemberConfig
from nvp_agentkit.training.member_trainer import MemberTrainer, Progress, TrainedModel
from nvp_agentkit.training.pacing import Pacer, WindowPacer
from nvp_agentkit.training.parent import Parent

WIDTHS = (None, (24, 64), (28, 56), (24, 48), (32, 48), (28, 64), (24, 56))  # None: all of the network's channels
STEP_BLOCKS, MOST_WINDOWS = 2 * 32**2, 8  # a step of fewer costs nearly as much: half of it depends on none
FEWEST_WINDOWS, FEWEST_FINE = 2, 4  # crops of few data lead a step of fewer astray (docs/decisions/052)
FINE_STEM, LONG_CONTEXT = 2, 8  # of small fields (docs/decisions/046), and of few
FEW_CELLS = 2**22  # to train on: fewer are seen so often that a closer look pays (docs/decisions/052)
FINE_CROP = 64  # of larger fields, for blocks of `FINE_STEM`: as many of them as a crop has of the usual ones
LONG_FRAMES = 3 * LONG_CONTEXT  # of each part of the data: a shorter one would have too few windows
CHAMPION_WEIGHT = 1.5  # of the allowance, where every other member has 1


@dataclass(frozen=True)
class MemberRecipe:
    """One member: ``voter-0`` is the champion; ``share`` is its part of the allowance, ``parent`` where it begins."""

    voter: str
    config: MemberConfig
    share: float
    parent: Parent | None = None


def network_for(meta: FieldMeta, *, masked: bool) -> NVPConfig:
    """The default network with the domain's boundary, sign and class of conservation."""
    return NVPConfig(boundary=meta.boundary, positive=meta.positive, conservation=meta.conservation, masked=masked)


def network_on(data: SequenceSet, shortest: int | None = None) -> NVPConfig:
    """`network_for` data to train on, and the frames of the shortest part of them; None: these are all.

    Of fields with a side under `SMALL_SIDE` cells, and of fewer than `FEW_CELLS` in all, it takes a closer look.
    """
    network = network_for(data.meta, masked=data.mask is not None)
    if min(data.grid) >= SMALL_SIDE and data.values.size >= FEW_CELLS:
        return network
    frames = data.frames if shortest is None else shortest
    context = LONG_CONTEXT if frames >= LONG_FRAMES else network.context_frames
    return replace(network, stem=FINE_STEM, context_frames=context)


def crop_of(data: SequenceSet, stem: int) -> int:
    """The side of the squares that fields are cut into for a network of blocks of ``stem`` cells."""
    return FINE_CROP if stem == FINE_STEM and min(data.grid) >= SMALL_SIDE else MemberConfig.crop


def windows_a_step(data: SequenceSet, stem: int) -> int:
    """Two where they have many blocks of ``stem`` cells a side, more where they have few or are crops of few data."""
    crop = crop_of(data, stem)
    blocks = math.prod(min(crop, side) // stem for side in data.grid)
    return min(max(STEP_BLOCKS // blocks, FEWEST_FINE if crop == FINE_CROP else FEWEST_WINDOWS), MOST_WINDOWS)


def ensemble(
    data: SequenceSet,
    *,
    members: int = 3,
    seed: int = 0,
    parents: Sequence[Parent] = (),
    shortest: int | None = None,
) -> tuple[MemberRecipe, ...]:
    """Recipes for ``members`` voters on ``data``, the champion first.

    ``shortest`` as `network_on` has it. With ``parents``, the members of an ensemble in their order, each goes on from
    its own: they stay as unlike as they were.

    Raises:
        InvalidInput: fewer than 1 or more than 7 members, more than there are parents, or parents that are another
            network than the data need or than each other.
    """
    if not 1 <= members <= len(WIDTHS):
        raise InvalidInput(f"{members} members; give 1 to {len(WIDTHS)}")
    if parents and members > len(parents):
        raise InvalidInput(f"{members} members, and an ensemble of {len(parents)} to go on from; give {len(parents)}")
    masked = data.mask is not None
    network = parents[0].network(data.meta, masked=masked) if parents else network_on(data, shortest)
    for one in parents:
        one.require(network)
    total = CHAMPION_WEIGHT + members - 1
    recipes = []
    for place in range(members):
        parent = parents[place] if parents else None
        features = parent.features if parent else WIDTHS[place]
        share = (1.0 if place else CHAMPION_WEIGHT) / total
        config = MemberConfig(
            network, features, seed=1000 * seed + place, batch_size=windows_a_step(data, network.stem),
            crop=crop_of(data, network.stem),
        )  # fmt: skip
        recipes.append(MemberRecipe(f"voter-{place}", config, share, parent))
    return tuple(recipes)


def train_members(
    recipes: Sequence[MemberRecipe],
    train: SequenceSet,
    validation: SequenceSet,
    pacer: Pacer,
    on_progress: Callable[[Progress], None] = lambda _: None,
    *,
    baselines: Mapping[str, float] | None = None,
    done: Sequence[int] = (),
    resume: Checkpoint | None = None,
    saving: Saver | None = None,
    on_member: Callable[[int, TrainedModel], object] = lambda place, trained: None,
) -> list[TrainedModel]:
    """Train all members one after the other within one allowance, each in its part of it.

    Recipes are of one network and crop, as `ensemble` makes them: they share programs and examples.

    A member that the allowance no longer reaches is untrained, which is persistence; its ``kept_step`` is 0.

    Args:
        recipes, train, validation: of all members.
        pacer: the allowance of all.
        on_progress: told of every step and validation, and whose it is.
        baselines: as `MemberTrainer.fit`.
        done: steps that each of the first members took in an earlier run; they are left out here.
        resume: how far that run had come with the member after these.
        saving: who keeps checkpoints on the way.
        on_member: told of each member that is done, by its place.
    """
    trained: list[TrainedModel] = []
    starts, steps = list(accumulate((recipe.share for recipe in recipes), initial=0.0)), sum(done)
    examples = Examples.of(train, recipes[0].config)
    for place, recipe in list(enumerate(recipes))[len(done) :]:
        window = WindowPacer(pacer, starts[place], starts[place + 1], steps)

        def tell(progress: Progress, place: int = place) -> None:
            on_progress(replace(progress, member=place))

        fitted = MemberTrainer(recipe.config).fit(
            train, validation, window, tell, baselines=baselines, examples=examples, parent=recipe.parent,
            resume=resume if place == len(done) else None, saving=saving,
        )  # fmt: skip
        on_member(place, fitted)
        trained.append(fitted)
        steps += fitted.steps
    return trained


def error_correlation(forecasts: Sequence[Forecasts]) -> dict[tuple[int, int], float]:
    """How alike two members err on the same windows, by their places: 1 is the same mistakes, 0 nothing in common.

    Pearson's, over the cells that were observed. A pair of which one never errs, or always by as much, is left out.
    """
    errors = np.stack([(one.mean - one.came)[... if one.there is None else one.there].ravel() for one in forecasts])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.atleast_2d(np.corrcoef(errors.astype(np.float64)))
    places = range(len(forecasts))
    return {(i, j): float(found[i, j]) for i in places for j in places if i < j and np.isfinite(found[i, j])}
