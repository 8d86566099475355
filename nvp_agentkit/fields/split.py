"""Which frames may teach, which may choose settings, and which may only judge."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nvp_agentkit.errors import InvalidField
from nvp_agentkit.fields.leaks import require_apart
from nvp_agentkit.fields.sequence import SequenceSet

MIN_TRAJECTORIES = 3  # fewer cannot give one each to training, validation and test
MIN_FRAMES = 4  # of a time block: two of context, two targets


@dataclass(frozen=True)
class Split:
    """Three sets that share no frame. ``rule`` says how they were parted, ``gap`` the frames thrown away between."""

    train: SequenceSet
    validation: SequenceSet
    test: SequenceSet
    rule: str
    gap: int = 0

    @property
    def shortest(self) -> int:
        """Frames of the shortest part."""
        return min(part.frames for part in (self.train, self.validation, self.test))

    @property
    def test_begins(self) -> tuple[int, int]:
        """Trajectory and frame of the whole at which the test set begins."""
        if self.gap == 0:
            return self.train.trajectories + self.validation.trajectories, 0
        return 0, self.train.frames + self.validation.frames + 2 * self.gap


def split(sequences: SequenceSet) -> Split:
    """By trajectory, 70 / 15 / 15 %, at least one each; fewer than three trajectories are cut in time.

    No frame is in two parts, whatever trajectory it stands in: overlapping imports of one file are refused.

    Time blocks are the weaker test: the last block continues the weather of the first, and a slow process
    remembers over any gap we can afford. So the gap is the larger of 2 frames and 5 % of the sequence, the rule
    is written into the provenance of every part, and nobody reads such a score as one on unseen trajectories.

    Raises:
        InvalidField: too few frames for three blocks, or a frame that would be in two parts.
    """
    parts = _by_trajectory(sequences) if sequences.trajectories >= MIN_TRAJECTORIES else _by_time(sequences)
    require_apart({"training": parts.train, "validation": parts.validation, "test": parts.test})
    return parts


def held_out(trajectories: int) -> int:
    """How many of so many, three at least, validate, and how many judge."""
    return max(1, round(0.15 * trajectories))


def _by_trajectory(sequences: SequenceSet) -> Split:
    held = held_out(sequences.trajectories)
    train = sequences.trajectories - 2 * held
    parts = (slice(0, train), slice(train, train + held), slice(train + held, None))
    return _named("by trajectory", 0, *(sequences.select(trajectories=part) for part in parts))


def _by_time(sequences: SequenceSet) -> Split:
    frames = sequences.frames
    gap = max(2, round(0.05 * frames))
    held = max(MIN_FRAMES, round(0.15 * frames))
    train = frames - 2 * (held + gap)
    if train < MIN_FRAMES:
        raise InvalidField(
            f"{sequences.trajectories} trajectories of {frames} frames; the limit is {MIN_TRAJECTORIES} trajectories, "
            f"or {3 * MIN_FRAMES + 2 * gap} frames to cut into three blocks: bring a longer sequence"
        )
    starts = (slice(0, train), slice(train + gap, train + gap + held), slice(frames - held, None))
    return _named("time blocks with a gap", gap, *(sequences.select(frames=part) for part in starts))


def _named(rule: str, gap: int, train: SequenceSet, validation: SequenceSet, test: SequenceSet) -> Split:
    parts = {"train": train, "validation": validation, "test": test}
    named = {
        name: replace(part, meta=part.meta.noting(split={"part": name, "rule": rule, "gap": gap}))
        for name, part in parts.items()
    }
    return Split(named["train"], named["validation"], named["test"], rule, gap)
