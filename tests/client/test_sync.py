"""The same client without an event loop."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import redis as blocking
from redis import Redis

from nvp_agentkit.client import AgentClient, SyncAgentClient
from nvp_agentkit.errors import InvalidField, InvalidInput, UnknownAccount, UnknownModel
from nvp_agentkit.messages import (
    JobCompleted,
    JobProgressed,
    Payload,
    PredictionRefused,
    Reading,
    decode,
    new_event,
)
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams import names

ACCOUNT = "test-sync"
READING = Reading(mj=900, lo_mj=500, hi_mj=3000, method="modelled", sensor="cpu-time")


@pytest.fixture
def server(valkey: str) -> Iterator[Redis]:
    with blocking.Redis.from_url(valkey) as server:
        server.hset(names.ACCOUNTS, ACCOUNT, "{}")
        yield server
        server.hdel(names.ACCOUNTS, ACCOUNT)
        for key in server.scan_iter(match=f"nvp:{{{ACCOUNT}}}:*"):
            server.delete(key)


@pytest.fixture
def nvp(server: Redis, settings: Settings) -> Iterator[SyncAgentClient]:
    with SyncAgentClient.connect(ACCOUNT, settings=settings) as client:
        yield client


def answering(server: Redis, suffix: str, *said: Payload | type[Payload], **values: object) -> threading.Thread:
    """A worker in a thread: answers the next request, telling the progress before."""

    def work() -> None:
        stream = names.key(ACCOUNT, suffix)
        ((_, [(_, fields), *_]),) = server.xread({stream: "0-0"}, block=20_000)
        request = decode(fields[b"event"]).id
        for step in range(1, 3):
            line = JobProgressed(
                job_id=request, phase="training", step=step, used_mj=1, granted_mj=2, method="modelled"
            )
            event = new_event(line, source="nvp:worker:tests")
            server.xadd(names.job(ACCOUNT, request), {"event": event.encode()})
        (kind,) = said
        name = "job_id" if suffix == "jobs" else "request_id"
        event = new_event(kind(**{name: request, **values}), source="nvp:worker:tests", replyto=request)
        server.hset(names.answers(ACCOUNT, request), event.type, event.encode())
        server.xadd(names.replies(ACCOUNT), {"event": event.encode(), "replyto": request, "type": event.type})

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_every_call_of_the_client_is_there_with_the_same_words() -> None:
    for name, call in inspect.getmembers(AgentClient, inspect.iscoroutinefunction):
        if not name.startswith("_"):
            twin = inspect.signature(inspect.unwrap(getattr(SyncAgentClient, name)))
            assert list(twin.parameters) == list(inspect.signature(call).parameters), name
            assert getattr(SyncAgentClient, name).__doc__ == call.__doc__


def test_a_refusal_comes_back_as_its_class(nvp: SyncAgentClient, server: Redis) -> None:
    worker = answering(server, "predict", PredictionRefused, code="unknown_model", detail="train one")
    with pytest.raises(UnknownModel, match="train one"):
        nvp.predict(np.ones((16, 16)), domain="plasma_physics", budget_j=5)
    worker.join()


def test_a_bad_field_is_refused_before_anything_is_sent(nvp: SyncAgentClient, server: Redis) -> None:
    with pytest.raises(InvalidField):
        nvp.predict(np.full((16, 16), np.nan), domain="plasma_physics", budget_j=5)
    assert server.xlen(names.key(ACCOUNT, "predict")) == 0


def test_a_name_that_is_none_and_data_that_are_no_dataset_are_said_in_words(nvp: SyncAgentClient) -> None:
    with pytest.raises(InvalidInput, match="domain='Rain Field': a name has 1 to 63 of a-z, 0-9 and '_'"):
        nvp.simulate("Rain Field", budget_j=5)
    for asked in (lambda: nvp.train("rain", data="rain.npz", budget_j=5), lambda: nvp.frames("rain.npz")):
        with pytest.raises(InvalidInput, match=r"='rain\.npz': give the dataset that a job made"):
            asked()


def test_a_job_is_a_loop_and_a_result(nvp: SyncAgentClient, server: Redis) -> None:
    worker = answering(server, "jobs", JobCompleted, kind="simulate", energy=READING, seconds=1.0)
    job = nvp.simulate("plasma_physics", budget_j=5, trajectories=3)
    assert f"SyncJob(account='{ACCOUNT}', id='{job.id}'" in repr(job)
    assert [line.step for line in job] == [1, 2]
    assert job.result().energy == READING
    worker.join()


def test_leaving_a_job_in_the_middle_leaves_nothing_open(nvp: SyncAgentClient, server: Redis) -> None:
    worker = answering(server, "jobs", JobCompleted, kind="simulate", energy=READING, seconds=1.0)
    for line in nvp.simulate("plasma_physics", budget_j=5):
        assert line.step == 1
        break
    worker.join()


def test_an_unknown_account_is_refused_and_nothing_stays_open(settings: Settings) -> None:
    with pytest.raises(UnknownAccount), SyncAgentClient.connect("nobody", settings=settings):
        pytest.fail("it was let in")
