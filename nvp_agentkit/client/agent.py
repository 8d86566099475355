"""The door for agents: publish a request under an account, wait for its answer."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from nvp_agentkit.client.answer import Reader
from nvp_agentkit.client.forecast import Axes, Forecast
from nvp_agentkit.client.job import FINALS, Job
from nvp_agentkit.client.limits import A_DATASET, ANSWER_S, said, seconds, within
from nvp_agentkit.client.place import Place, find
from nvp_agentkit.errors import InvalidInput, StoreUnavailable
from nvp_agentkit.messages import (
    ArrayRef,
    EvaluateSpec,
    Event,
    ImportSpec,
    JobCompleted,
    JobRequested,
    JobSpec,
    ObjectRef,
    Payload,
    PredictionAbstained,
    PredictionCertified,
    PredictionCompleted,
    PredictionRefused,
    PredictionRequested,
    SimulateSpec,
    TrainSpec,
    new_event,
)
from nvp_agentkit.messages.checks import check_field, millijoules
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.messages.values import INLINE_BYTES
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams.accounts import require
from nvp_agentkit.streams.connect import connect, store_errors
from nvp_agentkit.streams.replies import ReplyReader, answer, publish

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from redis.asyncio import Redis

    from nvp_agentkit.artifacts import Artifacts

PREDICTION_DEADLINE_S = 60.0
JOB_DEADLINE_S = 3600.0
SINGLE = (PredictionCompleted, PredictionRefused)
QUORUM = (PredictionCertified, PredictionAbstained, PredictionRefused)


class AgentClient:
    """An agent's connection under one energy account. Delivery is at least once, the answer is one.

    ``async with AgentClient.connect(account="ace-1") as nvp: ...``
    """

    def __init__(self, account: str, place: Place) -> None:
        self.account = account
        self._place = place
        self._stack = AsyncExitStack()

    @classmethod
    def connect(cls, account: str | None = None, *, settings: Settings | None = None) -> Self:
        """A client for ``account`` at the running stack (``NVP_*`` variables, else ``.nvp/stack.json``).

        Raises on entering:
            StackNotRunning: no stack is known.
            StoreUnavailable: the stream server does not answer.
            UnknownAccount: nobody registered the account.
        """
        place = find(settings or Settings.from_env(), account)
        if place.account is None:
            raise InvalidInput("no account: pass connect(account=...) or set NVP_ACCOUNT")
        return cls(place.account, place)

    async def __aenter__(self) -> Self:
        self._redis: Redis = await connect(self._place.settings)
        self._stack.push_async_callback(self._redis.aclose)
        try:
            async with within(ANSWER_S):
                with store_errors():
                    await require(self._redis, self.account)
            self._replies = await self._stack.enter_async_context(ReplyReader(self._redis, self.account))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

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
    ) -> Forecast:
        """Forecast the frame after ``field``.

        Args:
            field: shape (H, W), or (K, H, W) with the oldest frame first; finite; at least 16 cells a side. Of a shape
                that the models did not learn, whoever asks first pays for the compilation as well (some 25 J).
            domain: whose ensemble answers; until there is one, in a domain of our simulators, a trivial forecaster.
            budget_j: the most this may cost, in joules.
            assurance: ``single``, the champion's word, or ``quorum``, a certificate that 2/3 of the voters agree.
            units: of the field; left away, it is taken to be in the ones the models learnt. The forecast says which.
            model: a model id instead of the champion, only with ``single``. ``trivial`` needs no training: it is the
                trivial forecaster that had the last frame shown right (`Forecast.trained` is False).
            frame_time, dt_s, dx_m: of the last frame, between frames, between cells; for `Forecast.to_xarray`.
            deadline_s: how long the answer is worth having.

        Raises:
            InvalidField, InvalidInput: refused here, before anything is sent.
            InsufficientJoules, BudgetTooSmall, UnknownModel: refused there.
            QuorumAbstained: the voters did not agree.
            DeadlineExceeded: no answer in time.
        """
        if assurance == "quorum" and model is not None:
            raise InvalidInput("a quorum is of all members; ask for one model with assurance='single'")
        budget_mj, until = millijoules(budget_j), time.time() + seconds(deadline_s)
        axes = Axes(frame_time, dt_s, dx_m)
        values = check_field(field, max_cells=self._place.settings.max_cells)
        async with within(deadline_s):
            reference = await self._reference(values, units)
            request = said(PredictionRequested, domain=domain, field=reference, model=model, assurance=assurance)
            suffix, finals = ("ensemble", QUORUM) if assurance == "quorum" else ("predict", SINGLE)
            event = self._event(request, domain, budget_mj, until)
            await publish(self._redis, self.account, suffix, event)
        left_s = until - time.time() + 1.0
        reply = await self._replies.wait(event.id, [TYPE_OF[kind] for kind in finals], timeout_s=left_s)
        reader = Reader(self.artifacts, self._place.root_key, self._place.settings.max_cells)
        return await reader.read(reply.payload, request, axes)

    async def simulate(
        self, /, domain: str, *, budget_j: float | None = None, deadline_s: float = JOB_DEADLINE_S, **asked: int | str
    ) -> Job:
        """Make sequences of ``domain``: variant, trajectories, frames, size, seed. The result names the dataset."""
        return await self.submit(said(SimulateSpec, domain=domain, **asked), budget_j, deadline_s)

    async def import_file(
        self,
        path: Path | str,
        *,
        domain: str,
        array: str | None = None,
        units: str = "1",
        dt_s: float | None = None,
        dx_m: float | None = None,
        budget_j: float | None = None,
        deadline_s: float = JOB_DEADLINE_S,
    ) -> Job:
        """Bring in a file of your own: npz, npy, HDF5, NetCDF or Zarr (docs/files.md); NaN is a mask.

        The file goes to the artifact store as it is (a folder with a Zarr store as one zip file); it is opened in a
        worker's compute child, which is given no credentials and opens no connection.

        Args:
            array: which array or variable; needed if several could be meant.
            units: of the values; left away, those that the file names.
            dt_s, dx_m: between frames and cells, whatever the file says.
        """
        from nvp_agentkit.client.bringing import as_one_file

        source, _ = Path(path), millijoules(budget_j)
        with await asyncio.to_thread(as_one_file, source) as file:
            ref = await self.artifacts.put_file(file)
        said_of_it = {"array": array, "units": units, "dt_s": dt_s, "dx_m": dx_m}
        spec = said(ImportSpec, domain=domain, source=ref, filename=source.name, **said_of_it)
        return await self.submit(spec, budget_j, deadline_s)

    async def train(
        self,
        domain: str,
        *,
        data: ObjectRef,
        budget_j: float | None = None,
        members: int = 3,
        seed: int = 0,
        steps: int | None = None,
        parent: str | None = None,
        model: str | None = None,
        deadline_s: float = JOB_DEADLINE_S,
    ) -> Job:
        """Train an ensemble on ``data`` within ``budget_j`` joules; it serves the account's domain when done.

        ``parent``, an ensemble's digest (a training's `summary["ensemble"]`) or its champion's model id, of any domain:
        each member goes on from that ensemble's instead of fresh weights. ``starter``: all from the model that ships
        with the workers (docs/starter.md).
        ``steps``: so many of all members in all, within the budget; with enough of it the numbers do not depend on it.
        ``model``: of a plug-in's forecaster of that name, which the workers must have; None: of our networks.

        Raises (from the job's `result`):
            InsufficientJoules, BudgetTooSmall: refused, nothing spent; the text names the figure.
        """
        more = {"members": members, "seed": seed, "steps": steps, "parent": parent, "model": model}
        return await self.submit(said(TrainSpec, domain=domain, data=data, **more), budget_j, deadline_s)

    async def evaluate(
        self, domain: str, *, data: ObjectRef, budget_j: float | None = None, deadline_s: float = JOB_DEADLINE_S
    ) -> Job:
        """Score every trivial forecaster on what training on ``data`` would not see; the result has `scores`."""
        return await self.submit(said(EvaluateSpec, domain=domain, data=data), budget_j, deadline_s)

    async def submit(
        self, spec: JobSpec, budget_j: float | None, deadline_s: float = JOB_DEADLINE_S, *, name: str | None = None
    ) -> Job:
        """Any job. One that has a ``name`` is done once however often it is asked for: a second asker follows the
        first one's, and only if that ended badly it is begun anew.
        """
        until = time.time() + seconds(deadline_s)
        async with within(min(deadline_s, ANSWER_S)):
            job_id = None if name is None else await self._id_of(name)
            event = self._event(JobRequested(spec=spec), spec.domain, millijoules(budget_j), until, id=job_id)
            await publish(self._redis, self.account, "jobs", event)
        return Job(self._redis, self.account, event.id, until)

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

    @property
    def artifacts(self) -> Artifacts:
        """The artifact store of the stack."""
        from nvp_agentkit.artifacts import Artifacts

        return Artifacts.from_settings(self._place.settings)

    async def _id_of(self, name: str) -> str:
        for attempt in count(1):
            job_id = f"{name}-{attempt}"
            ended = await answer(self._redis, self.account, job_id, FINALS)
            if ended is None or isinstance(ended.payload, JobCompleted):
                break
        return job_id

    def _event(self, payload: Payload, subject: str, budget_mj: int, until: float, *, id: str | None = None) -> Event:
        return new_event(
            payload,
            id=id,
            source=f"nvp:agent:{self.account}",
            subject=subject,
            deadline=datetime.fromtimestamp(until, UTC),
            budget_mj=budget_mj,
        )

    async def _reference(self, values: NDArray[Any], units: str) -> ArrayRef:
        if values.nbytes <= INLINE_BYTES:
            from nvp_agentkit.artifacts import inline_array

            reference = inline_array(values)
        else:
            reference = await self.artifacts.put_array(values)
        return said(ArrayRef, **reference.model_dump() | {"units": units})
