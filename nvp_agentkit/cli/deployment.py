"""What a stack on one machine consists of: stores, keys and the worker processes, in one place."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nvp_agentkit.embedded.stackfile import read_stack
from nvp_agentkit.errors import StackError, StackNotRunning
from nvp_agentkit.settings import VOTERS, Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nvp_agentkit.embedded.stack import StackEvent
    from nvp_agentkit.embedded.supervisor import Supervisor
    from nvp_agentkit.embedded.worker import WorkerSpec
    from nvp_agentkit.energy.accounts import Balance
    from nvp_agentkit.streams.health import WorkerState

WORKERS = ("training", "inference", *(f"shadow-{place}" for place in range(1, len(VOTERS))), "tally", "recorder")
SIGNERS = (*VOTERS, "tally")
READY_S = 120.0
LOOK_S = 0.5


def settings_for(data_dir: Path | None) -> Settings:
    """Settings from the environment, with an absolute data folder."""
    settings = Settings.from_env() if data_dir is None else Settings.from_env(data_dir=data_dir)
    return settings.model_copy(update={"data_dir": settings.data_dir.resolve()})


def supervisor(
    settings: Settings, on_event: Callable[[StackEvent], None], workers: Sequence[str] = WORKERS
) -> Supervisor:
    """The supervisor of the stack, whole or with these ``workers``; it makes the keys that are missing."""
    from nvp_agentkit.embedded.supervisor import Supervisor
    from nvp_agentkit.ensemble import init_keys

    return Supervisor(
        settings,
        [worker(name, settings) for name in workers],
        on_event=on_event,
        root_key=settings.keys_dir / "root.pub",
        prepare=partial(init_keys, settings.keys_dir, SIGNERS),
        opened=_renew_users,
    )


async def _renew_users(redis: Redis) -> None:
    """What an earlier version let accounts do may be less than this one's clients ask for."""
    from nvp_agentkit.embedded.accounts_acl import renew_users
    from nvp_agentkit.streams.accounts import known

    await renew_users(redis, await known(redis))


def worker(name: str, settings: Settings) -> WorkerSpec:
    """How worker ``name`` is run."""
    return _run(name, settings, "nvp_agentkit.workers", name)


def _port(name: str, settings: Settings) -> int | None:
    """Where a worker of the stack answers probes; a saboteur at the port of the one that it stands in for."""
    if settings.metrics_port is None:
        return None
    place = name.replace("saboteur", "shadow")
    return settings.metrics_port + WORKERS.index(place) if place in WORKERS else None


def saboteur(number: int, fault: str, settings: Settings) -> WorkerSpec:
    """A voter that is wrong on purpose, to stand in for ``shadow-{number}``."""
    name = f"saboteur-{number}"
    return _run(name, settings, "nvp_agentkit.workers.saboteur", name, fault)


def _run(name: str, settings: Settings, *module: str) -> WorkerSpec:
    from nvp_agentkit.embedded.worker import WorkerSpec
    from nvp_agentkit.streams import names

    port = _port(name, settings)
    return WorkerSpec(
        name,
        [sys.executable, "-m", *module],
        names.worker(name, settings.instance),
        env={} if port is None else {"NVP_METRICS_PORT": str(port)},
        probes="" if port is None else f"http://{settings.metrics_host}:{port}",
    )


@dataclass(frozen=True)
class Opened:
    """An account as it stands; ``kept`` is False where the server forgets its user at a restart (no ACL file)."""

    balance: Balance
    kept: bool


async def deployed(settings: Settings, *, within_s: float = READY_S) -> list[WorkerState]:
    """The workers that serve at a stream server outside, once each is ready; none where nobody serves.

    A stack that is coming up is waited for: workers of two deployments on one server would share its work but not
    their keys.

    Raises:
        StoreUnavailable: the server does not answer.
        StackError: there are some workers, but not all are ready in time; the text names the others.
    """
    from nvp_agentkit.streams.connect import connect
    from nvp_agentkit.streams.health import workers

    redis = await connect(settings)
    try:
        until = time.monotonic() + within_s
        while (seen := await workers(redis)) and (waiting := unready(seen)):
            if time.monotonic() > until:
                raise StackError(
                    f"the stream server has workers, but not ready within {within_s:g} s: {', '.join(waiting)}; "
                    "`nvp status` and their logs tell why"
                )
            await asyncio.sleep(LOOK_S)
        return seen
    finally:
        await redis.aclose()


async def already_there(settings: Settings) -> str:
    """The stack that runs already, in words: that of the stream server named, or of the data folder. Else empty."""
    if settings.redis_url is not None:
        seen = Counter(one.name for one in await deployed(settings) if one.state == "ready")
        return ", ".join(name if count == 1 else f"{name} x {count}" for name, count in seen.items())
    try:
        read_stack(settings.data_dir)
    except StackNotRunning:
        return ""
    return f"the stack on {settings.data_dir}"


def unready(seen: Iterable[WorkerState]) -> list[str]:
    """The stack's workers of which no instance says that it is ready."""
    return sorted(set(WORKERS) - {one.name for one in seen if one.state == "ready"})


async def open_account(redis: Redis, settings: Settings, account: str, *, limit_mj: int, owner: str) -> Opened:
    """Register an account with its streams, its joules, and a user of its own at the stream server.

    One that is there already keeps its joules and its password. The login is kept in the data folder, mode
    0600, where this machine's clients find it.
    """
    from nvp_agentkit.client.place import Login, login_file
    from nvp_agentkit.embedded.accounts_acl import create_user
    from nvp_agentkit.embedded.place import write_private
    from nvp_agentkit.energy.ledger import Ledger
    from nvp_agentkit.streams import accounts

    path = login_file(settings.data_dir, account)
    made = await create_user(redis, account, _kept_password(path))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, Login(account=account, password=made.password).model_dump_json())
    await accounts.register(redis, account, owner=owner)
    return Opened(await Ledger(redis).create(account, limit_mj), made.kept)


async def account_with_room(redis: Redis, settings: Settings, account: str, *, room_mj: int, owner: str) -> None:
    """`open_account`, topped up to ``room_mj`` that are free, however much of it was used before."""
    from nvp_agentkit.energy.ledger import Ledger

    await open_account(redis, settings, account, limit_mj=room_mj, owner=owner)
    free_mj = (await Ledger(redis).balance(account)).free_mj
    if free_mj < room_mj:
        await Ledger(redis).top_up(account, room_mj - free_mj)


def _kept_password(path: Path) -> str | None:
    """The password of an earlier login; None where there is none to read, so that a new one is made."""
    from pydantic import ValidationError

    from nvp_agentkit.client.place import Login

    try:
        return Login.model_validate_json(path.read_text()).password
    except (FileNotFoundError, ValidationError):
        return None
