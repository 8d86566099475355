"""Models in service: warm before they serve, one for all voters of a request, promoted by their account, on record."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvp_agentkit.artifacts import inline_array
from nvp_agentkit.client import AgentClient
from nvp_agentkit.ensemble import EnsembleRecord
from nvp_agentkit.ensemble.service import Change
from nvp_agentkit.errors import (
    BudgetTooSmall,
    DeadlineExceeded,
    InvalidInput,
    NotReady,
    StoreUnavailable,
    UnknownModel,
)
from nvp_agentkit.messages import (
    PredictionCertified,
    PredictionCompleted,
    PredictionRequested,
    ServiceChanged,
    ServiceChangeRequested,
    decode,
)
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.settings import Settings, compute_environment
from nvp_agentkit.streams import Completion, Delivery, answer, names, publish
from nvp_agentkit.streams.health import workers
from nvp_agentkit.workers import inference, shadow, tally, training
from nvp_agentkit.workers.compute import turns
from nvp_agentkit.workers.compute.front import ComputeChild
from nvp_agentkit.workers.serving import promoting, registry, switching
from nvp_agentkit.workers.system import System

from .conftest import DOMAIN, VOTERS, Bench, Court, alive
from .test_forecasts import spoil

FINALS = [TYPE_OF[PredictionCompleted], TYPE_OF[PredictionCertified]]


@pytest.fixture
def made(bench: Bench, weights) -> Callable[..., Coroutine[Any, Any, EnsembleRecord]]:
    """Ensembles of three that are known and do not serve."""

    async def ensemble(seed: int, count: int = 3) -> EnsembleRecord:
        before = await bench.system.redis.hget(names.key(bench.account, "models"), DOMAIN)
        record = await bench.serve({voter: weights(seed + n) for n, voter in enumerate(VOTERS[:count])})
        if before is not None:
            await bench.system.redis.hset(names.key(bench.account, "models"), DOMAIN, before)
        return record

    return ensemble


@pytest.fixture
async def voter(bench: Bench, models) -> AsyncIterator[str]:
    """The champion's worker as far as it keeps models ready; its name."""
    system = models._duty._system = replace(bench.system, name="inference")
    async with alive(system, "inference") as stop:
        keeping = asyncio.create_task(models.keep_ready(stop))
        yield f"inference@{system.settings.instance}"
    await keeping


@pytest.fixture
async def slow(bench: Bench) -> AsyncIterator[str]:
    """The name of a voter that runs and says nothing about any model."""
    async with alive(replace(bench.system, name="shadow-2"), "shadow"):
        yield f"shadow-2@{bench.system.settings.instance}"


async def stands(bench: Bench, record: EnsembleRecord, place: str = "champion", share: float = 0.0) -> None:
    change = Change(place=place, ensemble=record.digest, share=share, by="tests")
    await bench.complete(Completion(dated=registry.dated(DOMAIN, change)))
    await asyncio.sleep(0.001)  # it holds from the next millisecond on


async def entered(bench: Bench, payload: PredictionRequested, suffix: str = "ensemble") -> Delivery:
    """``payload`` as a worker is handed it, with the id that the server gave its entry."""
    asked = bench.delivery(payload, suffix=suffix)
    entry_id = await publish(bench.system.redis, bench.account, suffix, asked.event)
    return Delivery(asked.account, asked.stream, entry_id, asked.event, 1)


def asking(bench: Bench, model: str = "@challenger", **words: Any) -> Delivery:
    return bench.delivery(ServiceChangeRequested(domain=DOMAIN, model=model, **words), suffix="service")


async def changed(bench: Bench, *args: Any, force: bool = True, **words: Any) -> ServiceChanged:
    completion = await promoting.change(asking(bench, *args, force=force, **words), bench.system)
    await bench.complete(completion)
    told = bench.said(completion)
    assert isinstance(told, ServiceChanged)
    return told


@asynccontextmanager
async def serving(system: System) -> AsyncIterator[None]:
    """Voters, tally and the worker that answers changes, as on a stack, in this process; until all are ready."""
    stop = asyncio.Event()
    each = {"inference": inference, "shadow-1": shadow, "shadow-2": shadow, "tally": tally, "training": training}
    running = [asyncio.create_task(one.serve(replace(system, name=name), stop)) for name, one in each.items()]
    async with asyncio.timeout(60):
        while {one.name for one in await workers(system.redis) if one.state == "ready"} < each.keys():
            await asyncio.wait(running, timeout=0.1)
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*running)


@pytest.fixture
def own_cache(settings: Settings, compile_cache: Path) -> Path:
    """What other tests have compiled, in a folder that only this test's child (`own_child`) adds to."""
    folder = settings.data_dir / "compile-cache"
    folder.unlink()
    return shutil.copytree(compile_cache, folder)


class Noting(ComputeChild):
    """A compute child of which it is known what waited for what."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(compute_environment(settings))
        self.waits: list[tuple[str, int, int]] = []  # of each turn: for what, how many others began, of them long ones
        self._begun = self._long = 0  # turns so far
        self._at_work = 0  # long ones, now

    @asynccontextmanager
    async def turn(self, op: str, deadline: float | None = None, *, long: bool = False) -> AsyncIterator[None]:
        begun, longs = self._begun, self._long - self._at_work
        async with super().turn(op, deadline, long=long):
            self.waits.append((op, self._begun - begun, self._long - longs))
            self._begun, self._long, self._at_work = self._begun + 1, self._long + long, int(long)
            try:
                yield
            finally:
                self._at_work = 0


async def test_requests_go_on_across_a_promotion_and_each_is_answered_by_who_served_when_it_was_asked(
    own_child, own_cache, bench, made, settings, field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PATIENCE_S", 60.0)
    child = Noting(settings)
    old = await made(0)
    redis, account = bench.system.redis, bench.account
    asked: dict[str, int] = {}
    over = asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            suffix = "predict" if len(asked) % 4 else "ensemble"
            other = inline_array(field + np.float32(0.01 * len(asked)), "J")
            payload = PredictionRequested(
                domain=DOMAIN, field=other, assurance="single" if suffix == "predict" else "quorum"
            )
            event = bench.delivery(payload).event
            asked[event.id] = int((await publish(redis, account, suffix, event)).partition("-")[0])
            await asyncio.sleep(0.02)

    async def so_many(count: int) -> None:
        while len(asked) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async with serving(replace(bench.system, child=child)), AgentClient.connect(account, settings=settings) as nvp:
        new = await made(10)
        asking = asyncio.create_task(ask())
        await so_many(25)
        programs = set(own_cache.iterdir())
        before = len(child.waits)
        done = await nvp.promote(DOMAIN, new.digest, force=True)
        await so_many(len(asked) + 25)
        over.set()
        await asking
        assert set(own_cache.iterdir()) == programs, "a request may have waited for a compiler"
        assert (done.champion, done.previous, done.cold) == (new.digest, old.digest, ())
        assert [worker.partition("@")[0] for worker in done.warm] == ["inference", "shadow-1", "shadow-2"]
        async with asyncio.timeout(20):
            while any([await answer(redis, account, one, FINALS) is None for one in asked]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        (change,) = (await nvp.models(DOMAIN)).changes
    await child.close()

    across = child.waits[before:]
    assert {op for op, *_ in across} >= {"load", "ready", "predict"}
    for op, others, longs in across:
        if op == "predict":
            assert longs <= 1, "it waited for more than the step of loading that was at work"
            assert others <= len(VOTERS) * 2, "it waited for more than a batch of each other model"

    entries = await redis.xrange(names.replies(account))
    told = {decode(fields[b"event"]).replyto: decode(fields[b"event"]).payload for _, fields in entries}
    ids = {record.digest: {one.model_id for one in record.members} for record in (old, new)}
    seen = {True: 0, False: 0}
    for request_id, at_ms in asked.items():
        reply, serves = told[request_id], ids[new.digest if at_ms >= change.since_ms else old.digest]
        seen[at_ms >= change.since_ms] += 1
        by = {reply.model_id} if isinstance(reply, PredictionCompleted) else set(reply.models.values())
        assert by <= serves, "answered by another than who served"
        assert isinstance(reply, PredictionCompleted) or reply.dissent == ()
    assert min(seen.values()) >= 20


async def test_voters_that_look_before_and_after_a_switch_mean_the_same_ensemble(
    bench, made, court: Court, request_of
) -> None:
    old, new = await made(0), await made(10)
    before = await entered(bench, request_of(assurance="quorum"))
    first = court.signed(await court.vote(before, "voter-0"))
    await stands(bench, new)
    after = await entered(bench, request_of(assurance="quorum"))
    late = court.signed(await court.vote(before, "voter-1"))
    again = court.signed(await court.vote(replace(after, origin=before.entry_id), "voter-2"))  # from the dead letters
    assert [first.record, late.record, again.record] == 3 * [old.digest]
    assert court.signed(await court.vote(after, "voter-1")).record == new.digest


async def test_a_challenger_on_trial_answers_its_share_and_a_quorum_only_if_it_can_vote(
    bench, made, court, models, request_of
) -> None:
    old, few = await made(0), await made(10, count=1)
    await stands(bench, few, "challenger", share=0.999999)
    one = await entered(bench, request_of(), "predict")
    assert (await models.who.single(one, one.payload)).record == few
    quorum = await entered(bench, request_of(assurance="quorum"))
    assert court.signed(await court.vote(quorum, "voter-0")).record == old.digest


async def test_requests_name_ensembles_by_alias_and_digest_and_models_by_id(
    bench, made, court, models, request_of
) -> None:
    old, new, beside = await made(0), await made(10), await made(20)
    for record in (old, new):
        await stands(bench, record)
    await stands(bench, beside, "challenger")
    pinned = {
        None: new, "@champion": new, f"{DOMAIN}@previous": old, f"{DOMAIN}@challenger": beside, old.digest: old,
        beside.members[2].model_id: beside, old.members[1].model_id: old,
    }  # fmt: skip
    for model, meant in pinned.items():
        asked = await entered(bench, request_of(model=model), "predict")
        served = await models.who.single(asked, asked.payload)
        assert (served.record, served.stands) == (meant, True)
        assert served.model_id == (model if model and model.startswith("model:") else meant.champion.model_id)
    asked = await entered(bench, request_of(model="@previous", assurance="quorum"))
    assert court.signed(await court.vote(asked, "voter-1")).record == old.digest
    with pytest.raises(UnknownModel, match=r"'model:sha256:0' is not in service .*; in service: model:sha256"):
        await models.who.single(asked, request_of(model="model:sha256:0"))
    with pytest.raises(InvalidInput, match="a quorum is of a whole ensemble"):
        await court.vote(await entered(bench, request_of(model=old.champion.model_id, assurance="quorum")), "voter-0")
    foreign = old.model_copy(update={"domain": "rain"})
    await bench.complete(Completion(fields=registry.registration(foreign)))
    with pytest.raises(UnknownModel, match="is an ensemble of rain; ask for that domain"):
        await models.who.single(asked, request_of(model=foreign.digest))


async def test_who_no_longer_stands_is_loaded_at_its_askers_cost(bench, made, models, request_of) -> None:
    await made(0)
    gone = await made(10)
    for stand, model in ((False, gone.digest), (True, None)):
        if stand:
            await stands(bench, gone)
        asked = await entered(bench, request_of(model=model), "predict")
        served = await models.who.single(asked, asked.payload)
        assert (served.record, served.stands) == (gone, stand)
        if stand:
            assert bench.said(await inference.answer(asked, models, bench.system)).model_id == served.model_id
        else:
            with pytest.raises(BudgetTooSmall, match=r"a forecast of 32x32 takes about 24\.\d+ J"):
                await inference.answer(asked, models, bench.system)


async def test_an_account_promotes_tries_and_goes_back_and_the_graph_knows_who_did(bench, made, voter) -> None:
    old, new = await made(0), await made(10)
    tried = await changed(bench, new.champion.model_id, share=0.25)
    assert (tried.champion, tried.challenger, tried.share) == (old.digest, new.digest, 0.25)
    completion = await promoting.change(asking(bench, reason="sharper fronts", force=True), bench.system)
    await bench.complete(completion)
    told = bench.said(completion)
    assert (told.champion, told.challenger, told.share, told.previous) == (new.digest, None, 0.0, old.digest)
    (fact,) = completion.facts
    (said,) = (node for node in fact.payload.nodes if node.label == "Assertion")
    assert (said.properties["predicate"], said.properties["value"]) == (
        "stage", f"champion of {bench.account}/{DOMAIN}")  # fmt: skip
    never = f"though {new.digest} was never compared with {old.digest}, which serves; "
    never += "train it on the same data, or from it"
    assert f"asked for by force, {never}: sharper fronts over {old.digest}; ensemble" in said.properties["reason"]
    links = {edge.type: edge.to_id for edge in fact.payload.edges}
    assert links == {"ABOUT": new.champion.model_id, "WAS_ATTRIBUTED_TO": f"ace:{bench.account}"}
    back = await changed(bench, "@previous", force=False)
    assert (back.champion, back.previous) == (old.digest, new.digest)
    assert (await changed(bench, "@previous", force=False)).champion == new.digest
    service = await registry.service_of(bench.system.redis, bench.account, DOMAIN)
    assert service.at().champion == new.digest
    assert [change.why for change in service.changes] == [
        "asked for", f"asked for by force, {never}: sharper fronts", "asked for", "asked for"]  # fmt: skip


async def test_what_errs_more_or_was_never_compared_serves_by_force_only_and_the_figures_are_told(
    bench, made, voter
) -> None:
    old, new, other = await made(0), await made(10), await made(20)
    worse = {"ensemble": old.digest} | BETTER | {"ours": 0.08}
    placed = await promoting.place(asking(bench), new, worse, bench.system)
    await bench.complete(Completion(fields=placed.fields, dated=placed.dated))
    figures = "VRMSE 0.0800 against 0.0700 of who serves on 2 held-out trajectories"
    with pytest.raises(InvalidInput, match=rf"errs more than who serves: {figures}; `share` tries .* `force` has it"):
        await changed(bench, force=False)
    with pytest.raises(InvalidInput, match=f"{other.digest} was never compared with {old.digest}, which serves"):
        await changed(bench, other.digest, force=False)
    assert (await changed(bench, other.digest, force=False, share=0.1)).share == 0.1, "a trial needs no proof"
    assert (await changed(bench, new.digest)).champion == new.digest
    (*_, last) = (await registry.service_of(bench.system.redis, bench.account, DOMAIN)).changes
    assert last.why == f"asked for by force, though {new.digest} errs more than who serves: {figures}"
    await stands(bench, other)  # so that it is not who served before
    await stands(bench, new)
    assert (await changed(bench, old.digest, force=False)).champion == old.digest, "it is known to be the better one"


async def under_way(bench: Bench) -> registry.Changing:
    """The change of the domain for which voters are waited."""
    async with asyncio.timeout(10):
        while True:
            found = await registry.under_way(bench.system.redis, bench.account, DOMAIN)
            if found is not None and found.record is not None:
                return found
            await asyncio.sleep(0.01)


async def none_under_way(bench: Bench) -> bool:
    return not await bench.system.redis.hexists(names.key(bench.account, "models"), registry.changing(DOMAIN))


async def test_nothing_is_switched_to_while_it_is_not_known_who_has_it_compiled(bench, made, redis, slow) -> None:
    old, new = await made(0), await made(10)

    async def unheard(switching_to: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.create_task(switching_to)
        token = (await under_way(bench)).token
        await redis.set(names.key(bench.account, f"warm:{token}"), "no hash", ex=60)
        return await task

    with pytest.raises(StoreUnavailable, match=rf"who has {new.digest} compiled is not known \(WRONGTYPE"):
        await unheard(changed(bench, new.digest))
    placed = await unheard(promoting.place(asking(bench), new, BETTER | {"ensemble": old.digest}, bench.system))
    assert placed.summary["service"] == "challenger"
    assert "of resamples" in placed.summary["service_because"], "that it is better stands"
    assert "compiled is not known" in placed.summary["service_because"]
    assert await none_under_way(bench)


async def test_where_no_voter_runs_nothing_is_switched_to_but_by_force_and_that_is_on_record(bench, made) -> None:
    old, new = await made(0), await made(10)
    placed = await promoting.place(asking(bench), new, BETTER | {"ensemble": old.digest}, bench.system)
    assert placed.summary["service"] == "challenger"
    assert "but no voter of it runs, so nothing is compiled" in placed.summary["service_because"]
    await bench.complete(Completion(fields=placed.fields, dated=placed.dated))
    with pytest.raises(NotReady, match=r"no voter of it runs, .*see `nvp status`, or use `force`"):
        await changed(bench, force=False)
    assert (await changed(bench)).champion == new.digest
    (*_, last) = (await registry.service_of(bench.system.redis, bench.account, DOMAIN)).changes
    assert last.why == "asked for by force, though no voter of it runs"


async def test_what_a_voter_said_to_an_earlier_change_is_not_heard_by_a_later_one(bench, made, slow) -> None:
    await made(0)
    new, name = await made(10), slow.partition("@")[0]
    voter = replace(bench.system, name=name)
    first = asyncio.create_task(changed(bench, new.digest))
    earlier = (await under_way(bench)).token
    await switching.say(voter, bench.account, earlier, "no room")
    with pytest.raises(NotReady, match=f"{slow} cannot load it: no room"):
        await first
    second = asyncio.create_task(changed(bench, new.digest))
    later = (await under_way(bench)).token
    await switching.say(voter, bench.account, earlier, "no room")  # late, too
    await switching.say(voter, bench.account, later)
    assert (await second).warm == (slow,)


async def test_a_change_beside_another_of_the_domain_is_refused_and_the_first_one_is_not_hurt(
    bench, made, slow
) -> None:
    old, new, other = await made(0), await made(10), await made(20)
    asked = asking(bench, new.digest, force=True)
    first = asyncio.create_task(promoting.change(asked, bench.system))
    found = await under_way(bench)
    with pytest.raises(NotReady, match=f"a change of {DOMAIN} by request {asked.request_id} is under way; ask again"):
        await changed(bench, other.digest)
    placed = await promoting.place(asking(bench), other, BETTER | {"ensemble": old.digest}, bench.system)
    assert placed.summary["service"] == "challenger"
    assert "is under way" in placed.summary["service_because"]
    assert (await under_way(bench)).token == found.token
    await switching.say(replace(bench.system, name="shadow-2"), bench.account, found.token)
    completion = await first
    with pytest.raises(NotReady, match="is under way"):  # until the completion, in whose moment it holds
        await changed(bench, other.digest)
    await bench.complete(completion)
    assert bench.said(completion).warm == (slow,)
    assert await none_under_way(bench)


async def test_a_change_whose_worker_died_is_gone_on_with_by_its_next_attempt_and_ends_by_itself(
    bench, made, slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(0)
    new, other = await made(10), await made(20)
    asked = asking(bench, new.digest)
    async with switching.alone(bench.system, asked, DOMAIN) as dead:
        dead.ending()  # it never comes to that
    with pytest.raises(NotReady, match="is under way"):
        await changed(bench, other.digest, share=0.0)
    monkeypatch.setattr(switching, "KEPT_S", 0.2)
    async with switching.alone(bench.system, replace(asked, attempt=2), DOMAIN) as again:
        again.ending()
    async with asyncio.timeout(10):
        while await registry.under_way(bench.system.redis, bench.account, DOMAIN):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await changed(bench, other.digest, share=0.0)).share == 0.0


async def test_an_attempt_that_was_frozen_neither_overwrites_nor_ends_what_another_attempt_goes_on_with(
    bench, made
) -> None:
    new, redis = await made(0), bench.system.redis
    frozen, later = (switching.Switch(redis, bench.account, DOMAIN, "request-1") for _ in range(2))
    await frozen.begin()
    await later.begin()
    with pytest.raises(NotReady, match=f"change of {DOMAIN} began over 60 s ago, or another one goes on with it"):
        await frozen.announce(new)
    await frozen.end()
    found = await registry.under_way(redis, bench.account, DOMAIN)
    assert (found.token, found.record) == (later.token, None)
    await later.announce(new)
    ending = later.ending()
    await later.end()  # its completion does
    for late in (frozen.ending(), ()):
        await bench.complete(Completion(unset=late))
        assert (await registry.under_way(redis, bench.account, DOMAIN)).record == new
    await bench.complete(Completion(unset=ending))
    assert await registry.under_way(redis, bench.account, DOMAIN) is None


async def test_what_cannot_serve_is_refused_in_words_and_nothing_changes(bench, made, redis) -> None:
    with pytest.raises(UnknownModel, match="no model for 'plasma_physics'; train one"):
        await changed(bench)
    old = await made(0)
    rain = old.model_copy(update={"domain": "rain"})
    await bench.complete(Completion(fields=registry.registration(rain)))
    for model, words, error, said in (
        ("@challenger", {}, UnknownModel, "plasma_physics has no challenger; `nvp models list` shows"),
        ("nobody", {}, UnknownModel, "model 'nobody' is no ensemble of account"),
        ("sha256:0", {}, UnknownModel, "has no ensemble sha256:0"),
        (rain.digest, {}, InvalidInput, "is an ensemble of rain; it cannot serve plasma_physics"),
        (old.digest, {"share": 0.1}, InvalidInput, "serves plasma_physics already; a share is for one that does not"),
    ):
        with pytest.raises(error, match=said) as caught:
            await changed(bench, model, **words)
        refused = bench.said(promoting.refuse(bench.system, asking(bench), caught.value))
        assert refused.code == error.code
    assert not await redis.hexists(names.key(bench.account, "models"), f"service:{DOMAIN}")


async def test_an_ensemble_that_a_voter_cannot_load_does_not_come_into_service(bench, made, voter) -> None:
    old, broken = await made(0), await made(10)
    spoil(bench.system.settings, broken.champion.weights.digest)
    with pytest.raises(NotReady, match=r"inference@.* cannot load it: voter-0 cannot load"):
        await changed(bench, broken.digest)
    placed = await promoting.place(asking(bench), broken, BETTER | {"ensemble": old.digest}, bench.system)
    assert placed.summary["service"] == "challenger"
    assert "cannot load it" in placed.summary["service_because"]


async def test_voters_that_do_not_get_warm_are_waited_for_no_longer_than_that_and_hold_up_all_but_force(
    bench, made, slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching, "WAIT_S", 0.2)
    old = await made(0)
    new = await made(10)
    better = BETTER | {"ensemble": old.digest}
    placed = await promoting.place(asking(bench), new, better, bench.system)
    assert placed.summary["service"] == "challenger"
    await bench.complete(Completion(fields=placed.fields, dated=placed.dated))
    with pytest.raises(DeadlineExceeded, match=rf"{slow} had not compiled it after 0\.2 s; ask again"):
        await changed(bench, new.digest, force=False)
    assert (await registry.service_of(bench.system.redis, bench.account, DOMAIN)).at().champion == old.digest
    told = await changed(bench, new.digest)
    assert (told.champion, told.warm, told.cold) == (new.digest, (), (slow,))
    assert await none_under_way(bench)


ANOTHER = "sha256:" + 64 * "0"
BETTER = {"why": "", "ours": 0.05, "theirs": 0.07, "trajectories": 2, "less": (0.01, 0.03)}


@pytest.mark.parametrize(
    ("beside", "to", "said"),
    [
        (BETTER, "champion", "VRMSE 0.0500 against 0.0700 of who serves on 2 held-out trajectories, 95% of"),
        (BETTER | {"ours": 0.07, "less": (None, None)}, "challenger", "VRMSE 0.0700 against 0.0700 of who serves"),
        (BETTER | {"ensemble": ANOTHER}, "challenger", "another ensemble has come into service since it was begun"),
        ({"why": "it learnt 'J'"}, "challenger", "not compared with who serves: it learnt 'J'"),
        (None, "challenger", "another ensemble has come into service"),
    ],
)
async def test_what_was_trained_serves_if_it_errs_less_than_who_does(bench, made, voter, beside, to, said) -> None:
    old, new = await made(0), await made(10)
    beside = beside and {"ensemble": old.digest} | beside
    placed = await promoting.place(asking(bench), new, beside, bench.system)
    assert placed.summary["service"] == to
    assert placed.summary["service_because"].startswith(said)
    if beside and not beside["why"]:
        assert placed.summary["vrmse_champion"] == beside["ours"]
        assert placed.summary["vrmse_in_service"] == beside["theirs"]
    await bench.complete(Completion(fields=placed.fields, dated=placed.dated, unset=placed.unset))
    assert await none_under_way(bench)
    standing = (await registry.service_of(bench.system.redis, bench.account, DOMAIN)).at()
    assert getattr(standing, to) == new.digest
    assert {standing.champion, standing.challenger, standing.previous} == {old.digest, new.digest, None}


async def test_a_trial_goes_on_when_something_worse_has_been_trained_and_the_same_changes_nothing(bench, made) -> None:
    old, tried, new = await made(0), await made(10), await made(20)
    await stands(bench, tried, "challenger", share=0.1)
    worse = {"ensemble": old.digest} | BETTER | {"ours": 0.08}
    placed = await promoting.place(asking(bench), new, worse, bench.system)
    assert (placed.summary["service"], placed.dated) == ("kept", ())
    assert f"{tried.digest} stays on trial" in placed.summary["service_because"]
    same = await promoting.place(asking(bench), old, worse, bench.system)
    assert (same.summary["service"], same.dated) == ("champion", ())
