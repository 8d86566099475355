"""The door for agents: publish a request under an account, wait for its answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from nvp_agentkit.client.answer import Reader
from nvp_agentkit.client.forecast import Axes, Forecast
from nvp_agentkit.client.jobs import Jobs
from nvp_agentkit.client.limits import A_DATASET, ANSWER_S, about, said, seconds, within
from nvp_agentkit.client.place import Place
from nvp_agentkit.client.service import InService
from nvp_agentkit.errors import AccountFull, InvalidInput, NvpError, StoreUnavailable, UnknownName
from nvp_agentkit.messages import (
    ArrayRef,
    Event,
    ObjectRef,
    PredictionAbstained,
    PredictionCertified,
    PredictionCompleted,
    PredictionRefused,
    PredictionRequested,
)
from nvp_agentkit.messages.checks import check_field, millijoules
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.messages.predictions import names_ensemble
from nvp_agentkit.messages.values import INLINE_BYTES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

PREDICTION_DEADLINE_S = 60.0
GRACE_S = 1.0  # after a deadline, for the word that it has passed, and for a last look
ASKED = 1000  # requests without an answer that a client can wait for again
SINGLE = (PredictionCompleted, PredictionRefused)
QUORUM = (PredictionCertified, PredictionAbstained, PredictionRefused)


@dataclass(frozen=True)
class _Asked:
    """A request for a forecast that has no answer yet; ``named`` by its asker, who may have used the id before."""

    event: Event
    request: PredictionRequested
    axes: Axes
    until: float
    named: bool


class AgentClient(Jobs, InService):
    """An agent's connection under one energy account. Delivery is at least once, the answer is one.

    ``async with AgentClient.connect(account="ace-1") as nvp: ...``
    """

    def __init__(self, account: str, place: Place) -> None:
        super().__init__(account, place)
        self._asked: dict[str, _Asked] = {}

    async def predict(
        self,
        field: ArrayLike,
        *,
        domain: str,
        budget_j: float | None = None,
        assurance: Literal["single", "quorum"] = "single",
        units: str = "1",
        model: str | None = None,
        frame_time: datetime | np.datetime64 | None = None,
        dt_s: float | None = None,
        dx_m: float | None = None,
        deadline_s: float = PREDICTION_DEADLINE_S,
        request_id: str | None = None,
    ) -> Forecast:
        """Forecast the frame after ``field``.

        Args:
            field: shape (H, W), or (K, H, W) with the oldest frame first; finite; at least 16 cells a side. Of a shape
                that the models did not learn, whoever asks first pays for the compilation as well (some 25 J).
            domain: whose ensemble answers; until there is one, in a domain of our simulators, a trivial forecaster.
            budget_j: the most this may cost, in joules.
            assurance: ``single``, the champion's word, or ``quorum``, a certificate that 2/3 of the voters agree.
            units: of the field; left away, it is taken to be in the ones the models learnt. The forecast says which.
            model: an ensemble's digest, ``@challenger``, ``@previous`` (docs/service.md); with ``single`` a model's id,
                or ``trivial``, ``starter``, which need no training (`Forecast.trained`).
            frame_time, dt_s, dx_m: of the last frame, between frames, between cells; for `Forecast.to_xarray`.
            deadline_s: how long the answer is worth having.
            request_id: yours; asked again with it, the same is worked on and paid for once, whatever became of before.

        Raises (once it may have been sent, with its ``request_id``: `result` waits again):
            InvalidField, InvalidInput: refused here, before anything is sent.
            InsufficientJoules, BudgetTooSmall, UnknownModel: refused there; QuorumAbstained: the voters did not agree.
            NotReady: the compute child died of it again and again, and it is left alone for ``retry_after_s``.
            AccountFull: too much of the account waits, and nothing was done. Ask again after ``retry_after_s``, under a
                new id: a worker may have said so.
            ConflictingFact: ``request_id`` was used to ask for something else.
            DeadlineExceeded: no answer in time. StoreUnavailable: it may have been sent; ask again with the same id.
        """
        if assurance == "quorum" and model is not None and not names_ensemble(model):
            raise InvalidInput("a quorum is of all members; ask for one model with assurance='single'")
        budget_mj, until = millijoules(budget_j), time.time() + seconds(deadline_s)
        axes = Axes(frame_time, dt_s, dx_m)
        values = check_field(field, max_cells=self._place.settings.max_cells)
        async with within(deadline_s):
            reference = await self._reference(values, units)
        request = said(PredictionRequested, domain=domain, field=reference, model=model, assurance=assurance)
        event = self._event(request, domain, budget_mj, until, id=request_id)
        return await self._ask(_Asked(event, request, axes, until, named=request_id is not None))

    async def result(self, request_id: str, *, deadline_s: float | None = None) -> Forecast:
        """Wait again for a forecast that this client asked for and has not got. Sends and costs nothing.

        Args:
            request_id: as the error that `predict` raised has it, or as `predict` was given it.
            deadline_s: how long to wait; left away, until the request's own deadline. One look is taken at least.

        Raises:
            UnknownName: this client has asked for no such thing, or has had its answer.
            All that `predict` raises of an answer, or because there is none.
        """
        asked = self._asked.get(request_id)
        if asked is None:
            raise UnknownName(
                f"no answer to {request_id!r} is waited for here; `predict` with this request_id and the same field "
                "finds the answer of another client's, or of one that this client has had"
            )
        with about(request_id):
            return await self._answer(asked, asked.until if deadline_s is None else time.time() + seconds(deadline_s))

    async def _ask(self, asked: _Asked) -> Forecast:
        suffix = "ensemble" if asked.request.assurance == "quorum" else "predict"
        with about(asked.event.id):
            async with within(max(asked.until - time.time(), GRACE_S)):
                if asked.named:
                    await self._refuse_if_another(asked.event)
                self._asked[asked.event.id] = asked
                while len(self._asked) > ASKED:  # the oldest make room
                    del self._asked[next(iter(self._asked))]
                try:
                    await self._door.publish(suffix, asked.event)
                except AccountFull:  # and nothing was sent
                    del self._asked[asked.event.id]
                    raise
            return await self._answer(asked, asked.until)

    async def _answer(self, asked: _Asked, until: float) -> Forecast:
        finals = QUORUM if asked.request.assurance == "quorum" else SINGLE
        left_s = max(until - time.time(), 0) + GRACE_S
        reply = await self._replies.wait(asked.event.id, [TYPE_OF[kind] for kind in finals], timeout_s=left_s)
        reader = Reader(self.artifacts, self._place.root_key, self._place.settings.max_cells)
        async with within(max(until - time.time(), 0) + GRACE_S):
            if asked.named:
                await self._refuse_if_another(asked.event)
            try:
                forecast = await reader.read(reply.payload, asked.request, asked.axes)
            except StoreUnavailable:  # the answer can still be read, as when time ran out meanwhile
                raise
            except NvpError:
                self._asked.pop(asked.event.id, None)
                raise
        self._asked.pop(asked.event.id, None)
        return forecast

    async def frames(
        self, dataset: ObjectRef, *, trajectory: int = 0, first: int = 0, count: int = 2, filled: bool = False
    ) -> NDArray[Any]:
        """Frames of a dataset that a job made, shape (count, H, W) float32, the oldest first.

        NaN where nothing was observed; with ``filled`` what training saw there instead, which was made up from around
        or before: for `predict`, which needs every value.

        Raises:
            InvalidInput: it has no such trajectory or frames.
            MissingExtra: safetensors is not installed.
        """
        from nvp_agentkit.client.looking import frames_of

        if not isinstance(dataset, ObjectRef):
            raise InvalidInput(f"dataset={dataset!r}: {A_DATASET}")
        path = await self.artifacts.local_path(dataset)
        return frames_of(path, trajectory, first, count, filled=filled)

    async def recorded(self, *, timeout_s: float = 30.0) -> None:
        """Wait until every fact that exists now is in the graph (read your own writes).

        Raises:
            StoreUnavailable: the recorder is behind after ``timeout_s``.
        """
        from nvp_agentkit.streams.watermark import passed

        async with within(timeout_s + ANSWER_S):
            recorded = await passed(self._redis, self.account, "lineage", timeout_s=timeout_s)
        if not recorded:
            raise StoreUnavailable(
                f"facts still wait for the graph after {timeout_s:.0f} s; `nvp status` shows the recorder"
            )

    async def _reference(self, values: NDArray[Any], units: str) -> ArrayRef:
        if values.nbytes <= INLINE_BYTES:
            from nvp_agentkit.artifacts import inline_array

            reference = inline_array(values)
        else:
            reference = await self.artifacts.put_array(values)
        return said(ArrayRef, **reference.model_dump() | {"units": units})
