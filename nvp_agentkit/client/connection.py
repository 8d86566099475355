"""An account's connection to a stack."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from nvp_agentkit.client.limits import ANSWER_S, within
from nvp_agentkit.client.line import line
from nvp_agentkit.client.place import Place, find
from nvp_agentkit.errors import ConflictingFact, InvalidInput
from nvp_agentkit.messages import Event, Payload, new_event
from nvp_agentkit.messages.envelope import MAX_ID
from nvp_agentkit.settings import Settings
from nvp_agentkit.streams.accounts import require
from nvp_agentkit.streams.claims import claimed_for_another
from nvp_agentkit.streams.connect import store_errors

if TYPE_CHECKING:
    from nvp_agentkit.artifacts import Artifacts


class Connection:
    """What all that a client asks for goes by: the stream server, a reader of replies, the artifact store.

    The first two are shared by all clients of the account in an event loop, and closed with the last of them.
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
        shared = await self._stack.enter_async_context(line(self._place.settings, self.account))
        self._redis, self._following = shared.redis, shared.following
        self._replies, self._door = shared.replies, shared.door
        try:
            async with within(ANSWER_S):
                with store_errors():
                    await require(self._redis, self.account)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def artifacts(self) -> Artifacts:
        """The artifact store of the stack."""
        from nvp_agentkit.artifacts import Artifacts

        return Artifacts.from_settings(self._place.settings)

    def _event(self, payload: Payload, subject: str, budget_mj: int, until: float, *, id: str | None = None) -> Event:
        if id is not None and not 1 <= len(id) <= MAX_ID:
            raise InvalidInput(f"request_id of {len(id)} characters: give 1 to {MAX_ID}, or none")
        return new_event(
            payload,
            id=id,
            source=f"nvp:agent:{self.account}",
            subject=subject,
            deadline=datetime.fromtimestamp(until, UTC),
            budget_mj=budget_mj,
        )

    async def _refuse_if_another(self, event: Event) -> None:
        """Raises `ConflictingFact` where the id is known to be of something else: its answer is not this one's."""
        with store_errors():
            another = await claimed_for_another(self._redis, self.account, event)
        if another:
            raise ConflictingFact(
                f"request id {event.id!r} was used before to ask for something else; give each question one of its own"
            )
