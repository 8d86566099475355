"""``python -m workers.health NAME``: is this very worker ready? What a container's health check asks.

It asks Redis, so it is also no when Redis does not answer: a worker that cannot be told of work is not healthy.
Beside the worker, with the same ``NVP_*`` variables and under the same host name. Nothing heavy is imported: it
runs as often as the engine likes, see docs/deploy.md for what it costs.
"""

from __future__ import annotations

import asyncio
import sys

from nvp_agentkit.errors import NvpError
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams.connect import AWAY, connect
from nvp_agentkit.streams.health import TTL_S, last_word

ANSWER_S = 5.0


async def ask(name: str, settings: Settings) -> tuple[bool, str]:
    """Whether the worker is ready, and its last word.

    Raises:
        StoreUnavailable: Redis cannot be reached.
    """
    redis = await connect(settings)
    try:
        async with asyncio.timeout(ANSWER_S):
            said = await last_word(redis, name, settings.instance)
    except AWAY as error:
        return False, f"Redis does not say: {str(error) or f'no answer within {ANSWER_S:g} s'}"
    finally:
        await redis.aclose()
    if said is None:
        return False, f"not a word of it within {TTL_S} s"
    return said.state == "ready", f"{said.state} {said.detail}"


def main(name: str) -> int:
    """Exit status 0 if it is ready; one line says why not."""
    try:
        settings = Settings.from_env()
        healthy, words = asyncio.run(ask(name, settings))
    except NvpError as error:
        print(error)
        return 1
    print(f"{name}@{settings.instance}: {words}")
    return 0 if healthy else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m workers.health NAME, as that of the worker beside which this runs")
    sys.exit(main(sys.argv[1]))
