"""How much there is of the model, and how much memory it takes: parameters, training at batch 16, a worker's child.

Training is `MemberTrainer` on 256x256 fields in a process of its own, validation and calibration included: on crops, as
it trains by itself, and on whole fields. The child has loaded the default model and compiled every batch that a worker
compiles for fields of 256x256, and has forecast. Peaks are proportional set sizes.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.process_tree import PeakPss, environment, pss_kb
from benchmarks.verdict import BrokenError, Figure
from nvp_agentkit.fields.sequence import FieldMeta, SequenceSet
from nvp_agentkit.model import ModelBundle, NVPConfig, count_parameters, save_model
from nvp_agentkit.model.state import initial_variables
from nvp_agentkit.settings import Settings, compute_environment
from nvp_agentkit.training import MemberConfig, MemberTrainer, StepPacer
from nvp_agentkit.workers.compute.front import ComputeChild
from nvp_agentkit.workers.serving.duty import BATCH_SIZES

SIDE, QUICK_SIDE = 256, 64
BATCH, STEPS = 16, 3
FRAMES = 18  # 16 windows, as many as are ever forecast at once, to train on and to validate on
LIMIT_S = 900
MILLION, GB = 1e6, 2**20


def measure(*, quick: bool) -> dict[str, Figure]:
    """Quick: fields of 64x64, held to nothing but the number of parameters."""
    config, side = NVPConfig(), QUICK_SIDE if quick else SIDE
    parameters = count_parameters(initial_variables(config, 0))
    figures = {"parameters": Figure(parameters / MILLION, "million", floor=8.5, goal=1.0)}
    bounds: tuple[float | None, float | None] = (None, None) if quick else (2.0, 1.0)
    for name, crop in {"crops": min(MemberConfig().crop, side // 2), "whole_fields": side}.items():
        figures[f"training/{name}"] = Figure(_training_gb(side, crop), "GB PSS", *bounds)
    bounds = (None, None) if quick else (0.5, 0.4)
    served, peak = asyncio.run(_child_gb(config, side))
    figures["inference/served"] = Figure(served, "GB PSS", *bounds)
    figures["inference/peak"] = Figure(peak, "GB PSS")
    return figures


def _training_gb(side: int, crop: int) -> float | None:
    """The most that a training held."""
    program = [sys.executable, "-m", "benchmarks.size", str(side), str(crop)]
    with subprocess.Popen(program, env=environment()) as process, PeakPss(process.pid, every_s=0.2) as memory:
        status = process.wait(LIMIT_S)
    if status:
        raise BrokenError(f"training on {side}x{side} in crops of {crop} ended with status {status}")
    return memory.peak_gb


def train(side: int, crop: int) -> None:
    """Some steps at batch `BATCH`; what is trained on does not matter to memory."""
    rng = np.random.default_rng(0)
    fields = [rng.random((1, FRAMES, side, side), np.float32) for _ in range(2)]
    data, held_out = (SequenceSet(values, None, FieldMeta("noise", positive=True)) for values in fields)
    MemberTrainer(MemberConfig(batch_size=BATCH, crop=crop, validations=1)).fit(data, held_out, StepPacer(STEPS))


async def _child_gb(config: NVPConfig, side: int) -> tuple[float, float | None]:
    """What a compute child holds once it has answered, and the most until then."""
    with tempfile.TemporaryDirectory(prefix="nvp-") as folder:
        path = Path(folder) / "model"
        model = save_model(ModelBundle(config, initial_variables(config, 0)), path)
        child = ComputeChild(compute_environment(Settings(data_dir=Path(folder))))
        try:
            await child.start()
            assert child.pid is not None
            shape = (config.context_frames, side, side)
            frames = np.ones((1, *shape), np.float32)
            with PeakPss(child.pid, every_s=0.2) as memory:
                await child.call("load", {"model_id": model, "source": str(path)})
                for batch in BATCH_SIZES:
                    await child.call("ready", {"model_id": model, "frames": shape, "batch": batch})
                await child.call("predict", {"model_id": model}, [frames])
            return pss_kb(child.pid) / GB, memory.peak_gb
        finally:
            await child.close()


if __name__ == "__main__":
    train(*map(int, sys.argv[1:]))
