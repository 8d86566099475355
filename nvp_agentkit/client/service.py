"""Which ensembles serve an account, and letting another one."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nvp_agentkit.client.connection import Connection
from nvp_agentkit.client.limits import ANSWER_S, said, seconds, within
from nvp_agentkit.errors import NvpError, UnknownModel, from_wire
from nvp_agentkit.messages import ServiceChanged, ServiceChangeRefused, ServiceChangeRequested, new_event
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.streams import names
from nvp_agentkit.streams.connect import store_errors

if TYPE_CHECKING:
    from nvp_agentkit.ensemble.service import Service

CHANGE_DEADLINE_S = 60.0
FINALS = tuple(TYPE_OF[kind] for kind in (ServiceChanged, ServiceChangeRefused))


class InService(Connection):
    """What an account has in service (docs/service.md)."""

    async def models(self, domain: str) -> Service:
        """Who serves ``domain`` and did: ``.at()`` has champion, challenger and its share, and previous, by digest;
        ``.changes`` is the history with times and reasons.

        Raises:
            UnknownModel: nothing was ever trained for it.
        """
        from nvp_agentkit.ensemble.service import HASH, Service, place_of

        async with within(ANSWER_S):
            with store_errors():
                raw: Any = await self._redis.hmget(names.key(self.account, HASH), [place_of(domain), domain])
        found = Service.read(*raw)
        if found.at().champion is None:
            raise UnknownModel(f"account {self.account} has no ensemble for {domain!r}; train one first")
        return found

    async def domains(self) -> list[str]:
        """The domains that an ensemble of this account serves."""
        from nvp_agentkit.ensemble.service import HASH, domains

        async with within(ANSWER_S):
            with store_errors():
                raw: Any = await self._redis.hkeys(names.key(self.account, HASH))
        return domains([name.decode() for name in raw])

    async def promote(
        self,
        domain: str,
        model: str = "@challenger",
        *,
        share: float | None = None,
        reason: str | None = None,
        force: bool = False,
        deadline_s: float = CHANGE_DEADLINE_S,
    ) -> ServiceChanged:
        """Have an ensemble serve ``domain`` that errs no more than who does, compiled by its voters before it does.

        Args:
            model: ``@challenger``, ``@previous``, an ensemble's digest or its champion's model id.
            share: of the requests, 0 to 1: who serves stays, and this one answers so many beside it; 0 ends that.
            reason: for the graph.
            force: also one that errs more, was never compared with who serves or is not compiled by all its voters;
                the graph has it with the figures.
            deadline_s: how long to wait; voters are waited for 45 s at most.

        Raises:
            UnknownModel, InvalidInput: there is no such ensemble, it is of another domain, or not known to be better.
            NotReady: another change of the domain is under way, no voter runs, or one cannot load it.
            DeadlineExceeded: a voter has not compiled it yet.
        """
        asked = said(ServiceChangeRequested, domain=domain, model=model, share=share, reason=reason, force=force)
        until = time.time() + seconds(deadline_s)
        source, deadline = f"nvp:agent:{self.account}", datetime.fromtimestamp(until, UTC)
        event = new_event(asked, source=source, subject=domain, deadline=deadline)
        async with within(min(deadline_s, ANSWER_S)):
            await self._door.publish("service", event)
        reply = (await self._replies.wait(event.id, FINALS, timeout_s=until - time.time() + 1.0)).payload
        if isinstance(reply, ServiceChangeRefused):
            raise from_wire(reply.code, reply.detail)
        if not isinstance(reply, ServiceChanged):
            raise NvpError(f"a {type(reply).__name__} is no answer to a change of service")
        await asyncio.sleep(0.001)  # it holds from the next millisecond on
        return reply

    async def rollback(
        self, domain: str, *, reason: str | None = None, force: bool = False, deadline_s: float = CHANGE_DEADLINE_S
    ) -> ServiceChanged:
        """Have the ensemble that served before serve again, whatever it errs; once more, and the later one is back."""
        return await self.promote(domain, "@previous", reason=reason, force=force, deadline_s=deadline_s)
