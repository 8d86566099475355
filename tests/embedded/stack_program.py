"""What ``nvp up`` leaves in the background, with two test workers: ``stack_program.py DATA_DIR [NEO4J...]``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from nvp_agentkit.embedded.supervisor import Supervisor, ends_on_signal
from nvp_agentkit.embedded.worker import WorkerSpec
from nvp_agentkit.settings import Settings

PROGRAM = Path(__file__).with_name("worker_program.py")


def spec(name: str, *manner: str) -> WorkerSpec:
    return WorkerSpec(name, (sys.executable, str(PROGRAM), name, *manner), f"nvp:{{registry}}:worker:{name}")


async def main() -> None:
    settings = Settings.from_env(data_dir=Path(sys.argv[1]))
    with ends_on_signal():
        async with Supervisor(settings, [spec("first"), spec("second")], on_event=tell) as stack:
            await stack.ready(timeout_s=60)
            print("READY", flush=True)
            await asyncio.Event().wait()


def tell(event: object) -> None:
    print(event, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
