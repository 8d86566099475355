"""Asking for work that takes a while."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from pathlib import Path

from nvp_agentkit.client.connection import Connection
from nvp_agentkit.client.job import FINALS, Job
from nvp_agentkit.client.limits import ANSWER_S, about, said, seconds, within
from nvp_agentkit.messages import (
    EvaluateSpec,
    HindcastSpec,
    ImportSpec,
    JobCompleted,
    JobRequested,
    JobSpec,
    ObjectRef,
    SimulateSpec,
    TrainSpec,
)
from nvp_agentkit.messages.checks import millijoules
from nvp_agentkit.messages.values import digest_of
from nvp_agentkit.streams.replies import answer

JOB_DEADLINE_S = 3600.0
HINDCAST_DEADLINE_S = 86_400.0


class Jobs(Connection):
    """What an account may have done; each gives a `Job` to follow."""

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
        millijoules(budget_j)
        spec = await self.bring(path, domain=domain, array=array, units=units, dt_s=dt_s, dx_m=dx_m)
        return await self.submit(spec, budget_j, deadline_s)

    async def bring(self, /, path: Path | str, *, domain: str, **meaning: str | float | None) -> ImportSpec:
        """Put a file into the artifact store: the job that would read it there. ``meaning``: as for `import_file`."""
        from nvp_agentkit.client.bringing import as_one_file

        source = Path(path)
        with await asyncio.to_thread(as_one_file, source) as file:
            ref = await self.artifacts.put_file(file)
        return said(ImportSpec, domain=domain, source=ref, filename=source.name, **meaning)

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
        urgent: bool = False,
        request_id: str | None = None,
    ) -> Job:
        """Train an ensemble on ``data`` within ``budget_j`` joules.

        When done it serves the account's domain if it errs less than what does, on the same held-out data
        (docs/service.md); where nothing serves yet, as it is.

        ``parent``, an ensemble's digest (a training's `summary["ensemble"]`) or its champion's model id, of any domain:
        each member goes on from that ensemble's instead of fresh weights. ``starter``: all from the model that ships
        with the workers (docs/starter.md).
        ``steps``: so many of all members in all, within the budget; with enough of it the numbers do not depend on it.
        ``model``: of a plug-in's forecaster of that name, which the workers must have; None: of our networks.
        ``urgent``, ``request_id``: see `submit`.

        Raises (from the job's `result`):
            InsufficientJoules, BudgetTooSmall: refused, nothing spent; the text names the figure.
        """
        more = {"members": members, "seed": seed, "steps": steps, "parent": parent, "model": model}
        spec = said(TrainSpec, domain=domain, data=data, **more)
        return await self.submit(spec, budget_j, deadline_s, urgent=urgent, request_id=request_id)

    async def evaluate(
        self, domain: str, *, data: ObjectRef, budget_j: float | None = None, deadline_s: float = JOB_DEADLINE_S
    ) -> Job:
        """Score every trivial forecaster on what training on ``data`` would not see; the result has `scores`."""
        return await self.submit(said(EvaluateSpec, domain=domain, data=data), budget_j, deadline_s)

    async def hindcast(
        self,
        data: ObjectRef,
        *,
        domain: str,
        steps: int,
        every: int = 1,
        model: str | None = None,
        partial: bool = False,
        budget_j: float | None = None,
        deadline_s: float = HINDCAST_DEADLINE_S,
        urgent: bool = False,
    ) -> Job:
        """Forecast ``steps`` frames ahead from every ``every``-th frame of ``data``; the result has a `manifest`.

        Refused where ``budget_j`` will not reach; with ``partial`` it is begun. What stops before its end, for joules
        or time, is gone on from when the same is asked for again, and only the rest is paid for. Asked for while it is
        under way, this follows that job.

        ``model``: a member's id, or an ensemble's digest or alias (docs/service.md): its champion; None: who serves.
        """
        more = {"steps": steps, "every": every, "model": model, "partial": partial}
        spec = said(HindcastSpec, domain=domain, data=data, **more)
        name = f"hindcast-{digest_of(spec.model_dump_json(exclude={'partial'}).encode())[-32:]}"
        return await self.submit(spec, budget_j, deadline_s, name=name, anew=True, urgent=urgent)

    async def submit(
        self,
        spec: JobSpec,
        budget_j: float | None,
        deadline_s: float = JOB_DEADLINE_S,
        *,
        name: str | None = None,
        anew: bool = False,
        urgent: bool = False,
        request_id: str | None = None,
    ) -> Job:
        """Any job. One that has a ``name`` is done once however often it is asked for: a second asker follows the
        first one's, and only if that ended badly it is begun anew; with ``anew`` however it ended.

        ``urgent`` ones are begun before the others that wait, but for every fourth; what runs is not interrupted.

        ``request_id``: yours, for a job without a ``name``: submitted again with the same id it is the same job, worked
        on and paid for once. So do that where it is not known whether it was sent (`StoreUnavailable`).

        Raises (with the job's id as ``request_id``):
            AccountFull: too much of the account waits, and nothing was done. Submit it again after ``retry_after_s``,
                under a new id: a worker may have said so.
            ConflictingFact: ``request_id`` was used to ask for something else.
            StoreUnavailable: the stores were away; it may have been sent.
        """
        until = time.time() + seconds(deadline_s)
        async with within(min(deadline_s, ANSWER_S)):
            job_id = request_id if name is None else await self._id_of(name, anew=anew)
            event = self._event(JobRequested(spec=spec), spec.domain, millijoules(budget_j), until, id=job_id)
            with about(event.id):
                if request_id is not None:
                    await self._refuse_if_another(event)
                await self._door.publish("urgent" if urgent else "jobs", event)
        return Job(self._following, self.account, event.id, until)

    def job(self, job_id: str, *, deadline_s: float = JOB_DEADLINE_S) -> Job:
        """A job of this account that was asked for before, here or elsewhere: to follow, to wait for, to cancel."""
        return Job(self._following, self.account, job_id, time.time() + seconds(deadline_s))

    async def _id_of(self, name: str, *, anew: bool) -> str:
        for attempt in count(1):
            job_id = f"{name}-{attempt}"
            ended = await answer(self._redis, self.account, job_id, FINALS)
            if ended is None or (isinstance(ended.payload, JobCompleted) and not anew):
                break
        return job_id
