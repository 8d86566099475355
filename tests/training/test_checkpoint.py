from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nvp_agentkit.errors import InvalidFile, InvalidInput, ResultNotKept
from nvp_agentkit.model import model_bytes
from nvp_agentkit.model.state import initial_variables
from nvp_agentkit.training import (
    Checkpoint,
    MemberTrainer,
    Saving,
    StepPacer,
    Trainer,
    TrainingConfig,
    load_checkpoint,
    save_checkpoint,
)
from nvp_agentkit.training.checkpoint import first_checkpoint

from .conftest import COMPILED_IN_CHILDREN, SMALL

FEW_BYTES = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


def before_the_first_step(seed: int = 0) -> Checkpoint:
    return first_checkpoint(SMALL, initial_variables(SMALL.model_config, seed))


def test_ten_steps_kill_9_and_ten_more_are_twenty_bit_for_bit(train, validation, path):
    whole = MemberTrainer(SMALL).fit(train, validation, StepPacer(20))
    environment = os.environ | COMPILED_IN_CHILDREN
    program = [sys.executable, "-m", "tests.training.killed", path]
    killed = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(path.parent.iterdir())) == 2  # what was there, and what would have taken its place
    half = load_checkpoint(SMALL, path)
    assert half.state.step == 10
    resumed = MemberTrainer(SMALL).fit(train, validation, StepPacer(20), resume=half)
    assert resumed.steps == 20
    for ours, theirs in zip(resumed.checkpoint.state[1:3], whole.checkpoint.state[1:3], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert model_bytes(resumed.bundle) == model_bytes(whole.bundle)


def test_a_run_can_be_resumed_twice_and_ends_as_it_would_have(train, validation, path):
    saving = Saving(path, every=4)
    whole = MemberTrainer(SMALL).fit(train, validation, StepPacer(6), saving=saving)
    run = load_checkpoint(SMALL, path)
    once, twice = (MemberTrainer(SMALL).fit(train, validation, StepPacer(6), resume=run) for _ in range(2))
    assert model_bytes(once.bundle) == model_bytes(twice.bundle) == model_bytes(whole.bundle)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond a few bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FEW_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_and_leaves_the_earlier_checkpoint(path, tmp_path):
    save_checkpoint(before_the_first_step(), SMALL, path)
    trainer = Trainer(TrainingConfig(SMALL.model_config, checkpoint_dir=tmp_path / "documented"))
    kept = trainer.save_checkpoint(0).read_bytes()
    with full_disk():
        with pytest.raises(ResultNotKept, match=r"run\.safetensors of \d+ bytes: File too large; .* make room there"):
            save_checkpoint(before_the_first_step(seed=1), SMALL, path)
        with pytest.raises(ResultNotKept, match="make room there"):
            trainer.save_checkpoint(0)
    first = before_the_first_step()
    np.testing.assert_array_equal(load_checkpoint(SMALL, path).state.weights, first.state.weights)
    assert [file.read_bytes() for file in trainer.folder.iterdir()] == [kept]
    assert sorted(tmp_path.iterdir()) == [trainer.folder, path]


def test_a_checkpoint_of_another_recipe_is_refused_and_what_differs_named(path):
    save_checkpoint(before_the_first_step(), SMALL, path)
    with pytest.raises(InvalidFile, match=r"another configuration \(seed\)"):
        load_checkpoint(replace(SMALL, seed=1), path)


def test_a_checkpoint_of_another_architecture_or_of_another_program_is_refused(path, tmp_path):
    save_checkpoint(before_the_first_step(), SMALL, path)
    wider = replace(SMALL, model_config=replace(SMALL.model_config, latent_dim=12))
    with pytest.raises(InvalidFile, match="model_config"):
        load_checkpoint(wider, path)
    foreign = Trainer(TrainingConfig(SMALL.model_config, checkpoint_dir=tmp_path)).save_checkpoint(0)
    with pytest.raises(InvalidFile, match="not a file of this package"):
        load_checkpoint(SMALL, foreign)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(path, share):
    save_checkpoint(before_the_first_step(), SMALL, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InvalidFile):
        load_checkpoint(SMALL, path)


def test_checkpoints_every_no_steps_are_refused(path):
    with pytest.raises(InvalidInput, match="every is 0"):
        Saving(path, every=0)


def test_a_missing_checkpoint_is_refused_and_never_random_weights(path):
    with pytest.raises(InvalidFile, match=r"run\.safetensors"):
        load_checkpoint(SMALL, path)


def test_weights_that_are_not_finite_are_refused(path):
    run = before_the_first_step()
    save_checkpoint(run._replace(state=run.state._replace(weights=run.state.weights * np.nan)), SMALL, path)
    with pytest.raises(InvalidFile, match="finite"):
        load_checkpoint(SMALL, path)
