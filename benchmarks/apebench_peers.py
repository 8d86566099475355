"""What APEBench does by itself, in an environment of its own: its data, its networks and training, its metric.

Nothing of ours takes part, so what is kept of it stays as it is when our code changes.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.cells import Numbers
from benchmarks.throwaway import kept_environment
from benchmarks.verdict import BrokenError

PINS = Path(__file__).with_name("apebench.txt")
LIMIT_S = 7200  # of a network's training on a busy machine
PROGRAM = """
import json, os, sys, time
from pathlib import Path
folder, what, scenario, steps, size = Path(sys.argv[1]), *sys.argv[2:4], *map(int, sys.argv[4:6])
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, numpy as np, trainax
from apebench.scenarios import scenario_dict
from exponax.metrics import mean_metric, nRMSE

one = scenario_dict[scenario](
    num_spatial_dims=2, num_points=size, batch_size=8,
    num_train_samples=max(2, steps * 8 // 50), num_test_samples=max(2, steps // 10), test_temporal_horizon=10,
    optim_config=f"adam;{steps};warmup_cosine;0.0;1e-3;{steps // 5}",
)

class Clock(trainax.callback.BaseCallback):
    def callback(self, update_i, stepper, data):
        jax.block_until_ready(stepper)
        return time.process_time()

def told(**numbers):
    print(json.dumps(numbers))

def errors(forecast, truth):
    return [float(mean_metric(nRMSE, forecast[:, at], truth[:, at])) for at in range(truth.shape[1])]

if what == "data":
    began = time.process_time()
    train = np.asarray(one.get_train_data())
    took = time.process_time() - began
    test = np.asarray(one.get_test_data())
    np.save(folder / "train.npy", train)
    np.save(folder / "test.npy", test)
    told(cpu_s=took, persistence=float(np.mean(errors(np.repeat(test[:, :1], 10, 1), test[:, 1:]))))
elif what == "score":
    test = np.load(folder / "test.npy")
    told(mean_nrmse=float(np.mean(errors(np.load(folder / "forecast.npy"), test[:, 1:]))))
else:
    train, test = np.load(folder / "train.npy"), np.load(folder / "test.npy")
    kind = type(one)
    kind.get_train_data, kind.get_test_data = (lambda self: jax.numpy.asarray(train)), lambda self: test
    kind.get_callback_fn = lambda self: Clock(1, "cpu_s")
    first, order = jax.random.split(jax.random.PRNGKey(0))
    fresh = one.get_neural_stepper(task_config="predict", network_config=what, key=first)
    trained, losses, seen = one.get_trainer(train_config="one")(fresh, order, spawn_tqdm=False)
    losses.block_until_ready()
    # From before the second step on: the first one compiles.
    took = (time.process_time() - seen[1]["cpu_s"]) * steps / (steps - 1)
    # Its own test gives the same; like this a forecast's cost is known as well.
    forward = jax.jit(jax.vmap(trained))
    now, rolled = test[:, 0], []
    forward(now).block_until_ready()
    began = time.process_time()
    for _ in range(test.shape[1] - 1):
        now = forward(now)
        rolled.append(np.asarray(now))
    forecast_s = (time.process_time() - began) / len(rolled) / len(test)
    found = float(np.mean(errors(np.stack(rolled, 1), test[:, 1:])))
    told(mean_nrmse=found, parameters=one.get_parameter_count(what), cpu_s=took, forecast_cpu_s=forecast_s)
"""


def run(folder: Path, what: str, scenario: str, steps: int, size: int) -> Numbers:
    """``what``: make its ``data`` in ``folder``, ``score`` our forecast there, or train the network of that name."""
    python = kept_environment("apebench", "apebench", pins=PINS)
    asked = [str(python), "-W", "ignore", "-c", PROGRAM, str(folder), what, scenario, str(steps), str(size)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise BrokenError(f"APEBench, {scenario}, {what}: {done.stderr.strip().splitlines()[-1]}")
    found: Numbers = json.loads(done.stdout.splitlines()[-1])
    return found
