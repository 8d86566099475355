"""Two classes of jobs: the urgent go first, the others do not wait for ever."""

from __future__ import annotations

import asyncio

from nvp_agentkit.streams import names, publish


async def test_what_is_urgent_goes_first_and_every_fourth_turn_is_the_others(bench):
    order: list[str] = []
    asked = {}
    for suffix, count in (("jobs", 3), ("urgent", 9)):
        for _ in range(count):
            event = bench.request()
            asked[event.id] = suffix
            await publish(bench.redis, bench.account, suffix, event)

    async def handle(delivery):
        order.append(asked[delivery.request_id])
        return bench.answered(delivery)

    consumer = bench.each(handle, kind="jobs", before="urgent", group="training", batch=1)
    await bench.eventually(lambda: asyncio.sleep(0, consumer.counts["done"] == 12))
    assert [place for place, suffix in enumerate(order) if suffix == "jobs"] == [3, 7, 11]
    for suffix in ("jobs", "urgent"):
        assert await bench.redis.xlen(names.key(bench.account, suffix)) == 0


async def test_an_urgent_message_whose_worker_fell_silent_is_taken_over(bench):
    event = bench.request()
    await publish(bench.redis, bench.account, "urgent", event)
    stream = names.key(bench.account, "urgent")
    await bench.redis.xreadgroup("training", "dead.1", {stream: ">"})
    bench.start(kind="jobs", before="urgent", group="training", batch=1, lease_s=0.5)
    await bench.reply(event)
