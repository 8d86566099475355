"""The loop that every worker runs in: deliver, lease, retry, complete, recover, drain.

At least once delivery, exactly once effect: a message is leased to one consumer at a time, and what comes of
it happens in one atomic step that only the holder of the lease can take (`completion`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections import Counter
from collections.abc import Collection
from contextlib import AsyncExitStack

from redis.asyncio import Redis
from redis.exceptions import RedisError

from nvp_agentkit.messages import Payload
from nvp_agentkit.observability.about import about
from nvp_agentkit.streams.claims import claim
from nvp_agentkit.streams.completion import Completion, Settlement, settle
from nvp_agentkit.streams.connect import AWAY
from nvp_agentkit.streams.delivery import Delivery, Entry
from nvp_agentkit.streams.handling import Batch, Done, Handle, Slow
from nvp_agentkit.streams.intake import BLOCK_S, Intake, are_suspect
from nvp_agentkit.streams.leases import Leases
from nvp_agentkit.streams.verdict import Again, Refuse, Rules

log = logging.getLogger(__name__)

DELIVERIES = 5
PROMPT_S = 1.0  # a batch that takes longer lets the next one begin, where there are hands for that
FIRST_RETRY_S = 0.25  # then doubled each time, up to the lease
PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0  # between two tries to reach Redis


class Consumer:
    """One worker's place in a consumer group, over the streams of all accounts.

    Args:
        kind: the streams' suffix, such as ``predict``.
        before: another suffix, of messages of the same sort that go first; every fourth read they go last.
        name: the worker's; its name in Redis carries a random part, so that a process never holds the leases
            of its predecessor.
        handle: deliveries -> one outcome each, in order. A retryable `NvpError` sends a message round again
            with back-off, any other is answered through ``refuse``.
        refuse: how this kind of request is told no.
        accepts: payload classes of this stream; anything else is dead-lettered. Empty: all.
        unique: messages are requests: of several entries with one id the first is worked on, the others are only
            acknowledged. False where a handler does not mind a message twice.
        batch: most messages that are read, and handled, together.
        apart: each message of a batch is a call of ``handle`` of its own, and settled when it is done, whatever the
            others take.
        hands: most batches beside each other; the next begins once the one before has taken ``prompt_s``.
        lease_s: how long a worker may be silent before others take its messages.
        max_deliveries: after so many attempts a message goes to the dead letters, and the client is told; infinite
            for what must not be lost however often its worker dies.
        drain_timeout_s: how long the running batch may go on after ``stop``.
        most_waiting: an entry after which so many came that nobody has taken yet is refused as `AccountFull`, where
            messages are ``unique`` and no other group reads the stream.

    `state` (starting, ready, draining) and `detail` are for the heartbeat; `counts` tells what happened: done,
    dead, lost, retried, recovered.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        kind: str,
        before: str = "",
        group: str,
        name: str,
        handle: Handle,
        refuse: Refuse,
        accepts: Collection[type[Payload]] = (),
        unique: bool = True,
        batch: int = 1,
        apart: bool = False,
        hands: int = 1,
        prompt_s: float = PROMPT_S,
        lease_s: float = 15.0,
        max_deliveries: float = DELIVERIES,
        drain_timeout_s: float = 10.0,
        most_waiting: float = math.inf,
    ) -> None:
        self._redis, self._group = redis, group
        self.name = f"{name}.{secrets.token_hex(4)}"
        self._handle, self._rules = handle, Rules(refuse, accepts, max_deliveries, group)
        self._unique, self._batch, self._most_waiting = unique, batch, most_waiting
        self._apart, self._hands, self._prompt_s = apart, hands, prompt_s
        self._lease_s, self._drain_timeout_s = lease_s, drain_timeout_s
        kinds = (before, kind) if before else (kind,)
        self._leases = Leases(redis, group=group, consumer=self.name, lease_s=lease_s)
        self._intake = Intake(
            redis, kinds=kinds, group=group, consumer=self.name, lease_s=lease_s, in_hand=lambda: self._leases.held
        )
        self._patience: asyncio.Task[None]  # ends when a drain has lasted long enough
        self._settling: asyncio.Task[None] | None = None
        self._slow = Slow()
        self._state, self._detail = "starting", ""
        self._unsettled = ""  # why what is done is not completed yet
        self._draining = False
        self.counts: Counter[str] = Counter()

    @property
    def state(self) -> str:
        return "draining" if self._draining else "starting" if self._unsettled else self._state

    @property
    def detail(self) -> str:
        return self._unsettled or self._detail

    @property
    def in_flight_s(self) -> list[float]:
        """How long each message in hand has been there."""
        return self._leases.held_s

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, then finish the running batch and hand back what has not begun.

        A stream server that goes away, or loses its data, only interrupts: `state` says so meanwhile.
        """
        self._patience = asyncio.create_task(self._drain(stop))
        background = [asyncio.create_task(self._leases.renew_forever()), self._patience]
        pause_s = PAUSE_S
        try:
            while not stop.is_set():
                try:
                    entries = await self._take()
                    self._state, self._detail, pause_s = "ready", "", PAUSE_S
                    await self._work(entries, stop)
                except RedisError as error:
                    await self._recover(error, pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            await self._leave()
        finally:
            if self._settling is not None:
                background.append(self._settling)
            background += self._slow.tasks
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)

    async def _drain(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._draining = True
        await asyncio.sleep(self._drain_timeout_s)

    async def _recover(self, error: Exception, pause_s: float) -> None:
        """Redis is away, or answered that a stream or group is gone: make all anew, after a pause."""
        self._state, self._detail = "starting", f"recovering: {error}"
        self.counts["recovered"] += 1
        log.warning("%s: %s; trying again", self.name, error)
        self._intake.forget()
        await asyncio.sleep(pause_s)

    async def _leave(self) -> None:
        try:
            await asyncio.gather(*self._slow.tasks)
            await self._settled()
            await self._intake.leave()
        except RedisError as error:
            log.warning("%s stays in its group: %s", self.name, error)

    async def _take(self) -> list[Entry]:
        """A batch, at most; what a read brought beyond it is handed back at once."""
        await self._slow.at_most(self._hands - 1, self._patience)
        # The first read does not wait: being able to read is being ready.
        entries = await self._intake.take(self._batch, BLOCK_S if self._state == "ready" else 0)
        held = set(self._leases.held)  # a server that lost its last writes delivers what is in hand as new
        entries = [one for one in entries if (one.stream, one.entry_id) not in held] if held else entries
        if are_suspect(entries):
            await self._settled()  # of a worker that this one kills nothing else may be left half done
            if self._slow.tasks and entries[0].fields is not None:
                await self._leases.release(entries, wait_s=self._prompt_s, counted=False)
                await self._slow.at_most(0, self._patience)
                return []
        await self._leases.release(entries[self._batch :], wait_s=0, counted=False)
        return entries[: self._batch]

    async def _work(self, entries: list[Entry], stop: asyncio.Event) -> None:
        """Handle a batch. What comes of it is settled while the next one is read and handled, and no more than that."""
        if stop.is_set():
            await self._leases.release(entries, wait_s=0, counted=False)
            return
        received = [self._rules.receive(entry) for entry in entries]
        firsts, beyond = await self._firsts([delivery for delivery in received if isinstance(delivery, Delivery)])
        received = [unreadable for unreadable in received if isinstance(unreadable, Settlement)]
        received += [self._rules.admit(one, full=one in beyond) for one in firsts]
        await self._settle([refused for refused in received if isinstance(refused, Settlement)])
        deliveries = [delivery for delivery in received if isinstance(delivery, Delivery)]
        if not deliveries:
            return
        batch = Batch(self._handle, deliveries, self._leases.holding, apart=self._apart)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(batch)
            beside = self._hands > 1 and not are_suspect(entries)
            until = asyncio.get_running_loop().time() + self._prompt_s if beside else math.inf
            while batch.at_work:
                await self._settled()
                if (done := await batch.done(self._patience, until)) is None:
                    break
                self._settling = asyncio.create_task(self._conclude(done))
            if batch.at_work and not self._patience.done():
                self._slow.begin(self._finish(batch, stack.pop_all()))
            else:
                await self._leases.release(await batch.cut_off(), wait_s=0, counted=False)

    async def _finish(self, batch: Batch, stack: AsyncExitStack) -> None:
        """A batch that was slow, to its end."""
        async with stack:
            while done := await batch.done(self._patience):
                await self._conclude(done)
            await self._leases.release(await batch.cut_off(), wait_s=0, counted=False)

    async def _conclude(self, done: Done) -> None:
        with done.held:
            concluded = [self._rules.conclude(*pair) for pair in done.pairs]
            await self._settle([one for one in concluded if isinstance(one, Settlement)])
            await self._retry([again for again in concluded if isinstance(again, Again)])

    async def _settled(self) -> None:
        """Wait until what came of the batch before is settled."""
        settling, self._settling = self._settling, None
        if settling is not None:
            await settling

    async def _firsts(self, deliveries: list[Delivery]) -> tuple[list[Delivery], set[Delivery]]:
        """Without what only repeats an earlier entry: that is answered, or will be, as the earlier one.

        And those of them after which ``most_waiting`` wait.
        """
        if not self._unique:
            return deliveries, set()
        accepts, most = self._rules.accepts, self._most_waiting
        repeated, beyond = await claim(self._redis, self._group, deliveries, accepts, most_waiting=most)
        if not repeated:
            return deliveries, beyond
        for one, _ in repeated:
            with about(one.ids):
                log.warning("%s on %s repeats request %s", one.entry_id, one.stream, one.request_id)
        why = [self._rules.of_no_use(one) if same else _reused(one) for one, same in repeated]
        await self._settle([
            Settlement(one.account, one.stream, one.entry_id, Completion(), dead, delivery=one)
            for (one, _), dead in zip(repeated, why, strict=True)
        ])  # fmt: skip
        others = {one for one, _ in repeated}
        return [one for one in deliveries if one not in others], beyond

    async def _settle(self, settlements: list[Settlement]) -> None:
        """Complete, and where Redis is away try that again: the work is not run again."""
        pause_s = PAUSE_S
        while settlements:
            try:
                results = await settle(self._redis, self._group, self.name, settlements)
            except AWAY as error:
                results = [error] * len(settlements)
            for settlement, result in zip(settlements, results, strict=True):
                self._count(settlement, result)
            away = [pair for pair in zip(settlements, results, strict=True) if isinstance(pair[1], AWAY)]
            settlements = [one for one, _ in away]
            self._unsettled = f"recovering: {away[0][1]}" if away else ""
            if not away or self._patience.done():
                return  # what is left, if anything, is delivered again when its lease runs out
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _count(self, settlement: Settlement, result: object) -> None:
        if result == 1 and not settlement.dead:
            self.counts["done"] += 1
            return
        with about(settlement.ids):
            if result == 1:
                self.counts["dead"] += 1
                log.error("%s on %s is a dead letter: %s", settlement.entry_id, settlement.stream, settlement.dead)
            elif result == 0:
                self.counts["lost"] += 1
                log.warning("%s on %s was not ours any more: nothing completed", settlement.entry_id, settlement.stream)
            else:
                log.warning("%s on %s not completed: %s", settlement.entry_id, settlement.stream, result)

    async def _retry(self, retries: list[Again]) -> None:
        for delivery, failed in retries:
            wait_s = min(self._lease_s, FIRST_RETRY_S * 2 ** min(delivery.attempt - 1, 16))
            self.counts["retried"] += 1
            with about(delivery.ids):
                log.warning("%s on %s again in %.2f s: %s", delivery.entry_id, delivery.stream, wait_s, failed)
                try:
                    await self._leases.release([delivery], wait_s=wait_s, counted=True)
                except RedisError as error:
                    log.warning("%s keeps its lease: %s", delivery.entry_id, error)  # until that runs out


def _reused(delivery: Delivery) -> str:
    return f"id {delivery.request_id} was used before to ask for something else; give each request an id of its own"
