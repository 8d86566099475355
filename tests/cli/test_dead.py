"""`nvp dead`: thousands of letters do not flood a terminal, and none steers it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from nvp_agentkit.streams import names, register

EVIL = b"\x1b[2J\x1b]0;owned\x07\xff\x00"
REASON = "failed on \x1b[31mred\x1b[0m\nand on " + 200 * "x"


def letter(n: int, *, reason: str = REASON, raw: bytes = EVIL) -> dict[str, bytes | str | int]:
    return {"id": f"{n + 1}-0", "reason": reason, "group": "inference", "worker": "w@h.1", "told": "", "raw:event": raw,
            "at_ms": 1_700_000_000_000 + n, "attempts": 5, "size": 5 + len(raw)}  # fmt: skip


@pytest.fixture
async def run(
    redis: Redis, account: str, valkey: str, nvp: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """``await run(...)``: `nvp dead ...` at an account with 2,000 letters of one reason and 3 of another."""
    monkeypatch.setenv("NVP_REDIS_URL", valkey)
    await register(redis, account, owner="tests")
    dead = names.dead(names.key(account, "predict"))
    pipe = redis.pipeline(transaction=False)
    for n in range(2000):
        pipe.xadd(dead, letter(n), id=f"{n + 1}-0")
    for n in range(3):
        pipe.xadd(names.dead(names.key(account, "jobs")), letter(n, reason="no disk", raw=b"{}"), id=f"{n + 1}-0")
    await pipe.execute()

    async def dead_command(*words: object) -> Any:
        return await asyncio.to_thread(nvp, "dead", *words)

    return dead_command


async def test_thousands_of_letters_are_a_page_and_hostile_text_is_written_out(run, account):
    said = (await run("list", "--account", account)).out
    assert said.startswith("2,003 dead letters of 1 accounts: 2,000 of predict, 3 of jobs\n")
    _, newest, why, *_ = lines = said.splitlines()
    assert len(lines) == 1 + 2 * 10 + 1
    assert newest.endswith(f"  {account}/predict/2000-0  5x inference")
    assert why.startswith(r"    failed on \x1b[31mred\x1b[0m and on xxx")
    assert why.endswith("…")
    assert max(map(len, lines)) <= 120
    shown = await run("show", f"{account}/predict/7-0")
    assert r"\x1b[2J\x1b]0;owned\x07\xff\x00" in shown.out
    for text in (said, shown.out):
        assert "\x1b" not in text
        assert "\x07" not in text


async def test_a_letter_comes_byte_for_byte(run, account, monkeypatch):
    name = f"{account}/predict/7-0"
    told = (await run("show", name, "--json")).json
    (field,) = told["raw"]
    assert base64.b64decode(field["value"]) == EVIL
    assert (told["letter"], told["attempts"], told["worker"]) == (name, 5, "w@h.1")
    written = []
    monkeypatch.setattr("sys.stdout.buffer.write", written.append, raising=False)
    await run("show", name, "--raw")
    assert written == [EVIL]


async def test_many_are_replayed_or_dropped_by_their_reason_and_what_cannot_be_is_counted(run, redis, account):
    sent = await run("replay", "--all", "--account", account, "--reason", "no disk", "--json")
    assert len(sent.json["replayed"]) == 3
    entries = await redis.xrange(names.key(account, "jobs"))
    assert {fields[b"event"] for _, fields in entries} == {b"{}"}
    again = await run("replay", f"{account}/jobs/1-0")
    assert again.status == 1
    assert "was replayed, dropped or displaced" in again.err
    assert (await run("drop", "--all", "--account", account, "--stream", "predict")).out == "2,000 dropped\n"
    assert (await run("list", "--account", account)).out == "no dead letter\n"
    for stream, what, n in (("jobs", "replayed", 3), ("predict", "dropped", 10)):
        listed = ("list", "--account", account, "--handled", "--stream", stream, "--limit", 10, "--json")
        handled = (await run(*listed)).json["handled"]
        assert [one["what"] for one in handled] == [what] * n
        assert all("@" in one["by"] for one in handled)


async def test_nothing_is_dropped_that_was_not_named(run, account):
    for words in (
        (),
        (f"{account}/predict/7-0", "--all"),
        ("--account", account),
        (f"{account}/predict/7-0", "--reason", "x"),
    ):
        refused = await run("drop", *words, "--json")
        assert refused.status == 1
        assert "name letters, or give --all" in json.loads(refused.out)["detail"]
    total = (await run("list", "--account", account, "--json")).json["total"]
    assert sum(one["letters"] for one in total) == 2003


async def test_what_could_not_be_replayed_is_told_by_reason_and_stays(run, redis, account):
    pipe = redis.pipeline()
    for n in range(12):
        pipe.xadd(names.dead(names.key(account, "votes")), letter(n, raw=b"") | {"size": 70_000}, id=f"{n + 1}-0")
    await pipe.execute()
    said = await run("replay", "--all", "--account", account, "--stream", "votes")
    assert (said.status, said.out) == (1, "0 replayed\n")
    assert said.err == "12 not: 5 of its 70000 bytes were kept, so it cannot be sent again\n"
