"""What one would write by hand: ``python -m benchmarks.bare_worker``, a batched loop over the same compute child.

It reads, validates, gets the field, forecasts in batches, stores mean and log-variance, answers, acknowledges. No
joules, no leases, no lineage, nothing where something goes wrong.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import numpy as np

from benchmarks.served import ACCOUNT
from nvp_agentkit.energy.meter import modelled
from nvp_agentkit.messages import PredictionCompleted, PredictionRequested, decode, new_event
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import names
from nvp_agentkit.streams.health import announce
from nvp_agentkit.workers.serving.duty import BATCH_SIZES
from nvp_agentkit.workers.system import System, bootstrap

SUFFIX, GROUP = "bare", "bare"
STREAM = names.key(ACCOUNT, SUFFIX)


async def serve(system: System, model_id: str, weights: str) -> None:
    await system.child.start()
    await system.child.call("load", {"model_id": model_id, "source": weights})
    await system.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    await announce(system.redis, "bare", system.settings.instance, "bare", "ready", "1 model")
    while True:
        await _batch(system, model_id)


async def _batch(system: System, model_id: str) -> None:
    found: Any = await system.redis.xreadgroup(GROUP, "one", {STREAM: ">"}, count=BATCH_SIZES[-1], block=1000)
    if not found:
        return
    ((_, entries),) = found
    events = [decode(fields[b"event"]) for _, fields in entries]
    refs = [event.payload.field for event in events if isinstance(event.payload, PredictionRequested)]
    frames = [await system.artifacts.get_array(ref) for ref in refs]
    size = next(size for size in BATCH_SIZES if size >= len(frames))
    told = await system.child.call(
        "predict", {"model_id": model_id}, [np.stack(frames + frames[-1:] * (size - len(frames)))]
    )
    means, log_vars = told.arrays
    pipe = system.redis.pipeline(transaction=True)
    for event, mean, log_var in zip(events, means, log_vars, strict=False):
        payload = PredictionCompleted(
            request_id=event.id,
            model_id=model_id,
            mean=await system.artifacts.put_array(mean),
            log_var=await system.artifacts.put_array(log_var),
            energy=modelled(told.cost.cpu_s / len(events)),
        )
        answer = new_event(payload, source="bare", replyto=event.id)
        pipe.xadd(names.replies(ACCOUNT), {"event": answer.encode(), "replyto": event.id})
        pipe.hset(names.answers(ACCOUNT, event.id), answer.type, answer.encode())
    pipe.xack(STREAM, GROUP, *[entry_id for entry_id, _ in entries])
    await pipe.execute()


async def main(model_id: str, weights: str) -> None:
    async with bootstrap("bare", Settings.from_env()) as system:
        await serve(system, model_id, weights)


if __name__ == "__main__":
    gc.freeze()  # as workers do
    asyncio.run(main(*sys.argv[1:]))
