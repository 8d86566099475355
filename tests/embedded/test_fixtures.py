"""The fixtures every other test stands on."""

from __future__ import annotations

from nvp_agentkit.settings import Settings


async def test_a_blocked_read_wakes_up_when_something_arrives(redis, account: str) -> None:
    await redis.xadd(f"nvp:{{{account}}}:jobs", {"event": b"x"})
    assert await redis.xread({f"nvp:{{{account}}}:jobs": "0"}, block=1000)


def test_settings_lead_to_the_servers_under_test(settings: Settings, valkey: str, graph) -> None:
    assert settings.redis_url == valkey
    assert settings.neo4j_uri == graph.uri
