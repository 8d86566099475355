"""The graph over Bolt: one code path for Neo4j and the embedded ArcadeDB.

Everything runs in managed transactions. A failed autocommit statement of ArcadeDB 26.10.2 left rows
behind; managed ones left none. What the driver does not retry, a MERGE that lost its race against the
same MERGE elsewhere, is retried here.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self, TypeVar

from nvp_agentkit.errors import (
    ConflictingFact,
    InvalidMessage,
    MissingExtra,
    NvpError,
    StackNotRunning,
    StoreUnavailable,
)
from nvp_agentkit.lineage import migrate, writer
from nvp_agentkit.lineage.transaction import Row, Transaction
from nvp_agentkit.messages import LineageRecorded
from nvp_agentkit.settings import Settings

try:
    import neo4j
    from neo4j import exceptions as bolt
except ImportError as error:
    raise MissingExtra.of("neo4j", extra="graph") from error

# Each retry is a warning of the driver's. Whoever configures logging gets them; nobody's terminal does.
logging.getLogger("neo4j").addHandler(logging.NullHandler())

T = TypeVar("T")
Work = Callable[[Transaction], Awaitable[T]]

RACES = 12
RACE_PAUSE_S = 0.01
# Errors "of the client" that say nothing about the query.
NOT_OURS = {
    "Neo.ClientError.Database.DatabaseNotFound": "the graph server does not know the database yet",  # port comes first
    "Neo.ClientError.Request.Invalid": "the graph server has just been started",  # ArcadeDB: before it knows users
    "Neo.ClientError.Transaction.TransactionNotFound": "the graph cannot keep it, is its disk full?",  # ArcadeDB
}
OF_THE_USER = "Neo.ClientError.Security."  # rights withheld, a password to be changed first: facts can wait for that
AWAY_AFTER_S = 3.0  # the driver tries that long to reach a server before it counts as away


class Graph:
    """The lineage graph of one database.

    Construction does no I/O. The first write brings the schema up to date, so a recorder that starts
    before its graph needs nothing but to try again.

    Raises (all methods): `StoreUnavailable`, retryable, when the graph is away, refuses the credentials
    or does not answer within ``timeout_s``; nothing of a failed call stays behind.
    """

    def __init__(self, driver: neo4j.AsyncDriver, database: str, *, timeout_s: float = 30.0) -> None:
        self._driver = driver
        self._database = database
        self._timeout_s = timeout_s
        self._migrated = False

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """A graph at the place ``settings`` name, reached at the first call."""
        return cls(driver_for(settings), settings.neo4j_database)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._driver.close()

    async def ready(self) -> None:
        """Return once a query was answered and the schema is up to date."""
        if not self._migrated:
            await migrate.migrate(self)
            self._migrated = True
        await self.rows("RETURN 1 AS one")

    async def write(self, bundles: Sequence[LineageRecorded]) -> None:
        """Write all bundles or none, in one transaction. Twice, or in another order, is the same as once.

        Raises:
            ConflictingFact: an id that the graph (or another bundle) knows with another value.
            InvalidMessage: a fact outside the vocabulary.
        """
        batch = writer.Batch.of(bundles)
        if not self._migrated:
            await migrate.migrate(self)
            self._migrated = True
        await self.change(lambda transaction: writer.write(transaction, batch))

    async def write_each(self, bundles: Sequence[LineageRecorded]) -> list[NvpError | None]:
        """Write what can be written; for each bundle what is wrong with it, or None.

        All go in one transaction as long as nothing is wrong; a bad bundle is found by halving.
        """
        if not bundles:
            return []
        try:
            await self.write(bundles)
        except (ConflictingFact, InvalidMessage) as error:
            if len(bundles) == 1:
                return [error]
            half = len(bundles) // 2
            return await self.write_each(bundles[:half]) + await self.write_each(bundles[half:])
        return [None] * len(bundles)

    async def rows(self, cypher: str, **parameters: object) -> list[Row]:
        """The records of one reading statement."""
        return await self.read(lambda transaction: transaction.rows(cypher, **parameters))

    async def read(self, work: Work[T]) -> T:
        """Run ``work`` in one reading transaction. It may run more than once."""
        return await self._run(work, writing=False)

    async def change(self, work: Work[T]) -> T:
        """Run ``work`` in one writing transaction. It may run more than once, and takes effect once."""
        for attempt in range(1, RACES + 1):
            try:
                return await self._run(work, writing=True)
            except bolt.ClientError as error:
                if not _race_lost(error):
                    raise
                if attempt == RACES:
                    break
                # Jitter, or the same two writers meet again.
                await asyncio.sleep(random.uniform(0, min(0.25, RACE_PAUSE_S * 2**attempt)))  # noqa: S311
        raise ConflictingFact(f"a uniqueness constraint failed {RACES} times in a row: not a race, a duplicate")

    async def _run(self, work: Work[T], *, writing: bool) -> T:
        with _in_our_words(self._timeout_s):
            async with asyncio.timeout(self._timeout_s), self._driver.session(
                database=self._database, initial_retry_delay=0.01, retry_delay_multiplier=1.5
            ) as session:
                execute = session.execute_write if writing else session.execute_read
                return await execute(lambda transaction: work(Transaction(transaction)))


def driver_for(settings: Settings) -> neo4j.AsyncDriver:
    """A driver for the graph ``settings`` name; it connects when it is used.

    Raises:
        StackNotRunning: no graph is named.
    """
    if settings.neo4j_uri is None:
        raise StackNotRunning("no lineage graph is named: start one with `nvp up`, or set NVP_NEO4J_URI")
    password = settings.neo4j_password
    return neo4j.AsyncGraphDatabase.driver(
        settings.neo4j_uri,
        auth=None if password is None else (settings.neo4j_user, password),
        connection_timeout=AWAY_AFTER_S,
        connection_acquisition_timeout=2 * AWAY_AFTER_S,
        max_transaction_retry_time=AWAY_AFTER_S,
        notifications_min_severity="OFF",  # a label nobody has written yet is no warning
    )


def _race_lost(error: bolt.ClientError) -> bool:
    """A MERGE against the same MERGE, or IF NOT EXISTS against the same IF NOT EXISTS."""
    code = error.code or ""
    return isinstance(error, bolt.ConstraintError) or (".Schema." in code and code.endswith("AlreadyExists"))


@contextmanager
def _in_our_words(timeout_s: float) -> Iterator[None]:
    """Away is `StoreUnavailable`; a lost race is left to `Graph.change`; a wrong query stays what it is: a bug."""
    try:
        yield
    except TimeoutError as error:
        raise StoreUnavailable(f"the graph did not answer within {timeout_s:g} s") from error
    except bolt.AuthError as error:
        remedy = "set NVP_NEO4J_USER and NVP_NEO4J_PASSWORD"
        raise StoreUnavailable(f"the graph refused user or password; {remedy}") from error
    except bolt.ClientError as error:
        code = error.code or ""
        if code.startswith(OF_THE_USER):
            said = f"the graph does not let its user do that ({code}): {error.message}"
            raise StoreUnavailable(f"{said}; see to its rights, or set NVP_NEO4J_USER") from error
        if code not in NOT_OURS:
            raise
        raise StoreUnavailable(f"{NOT_OURS[code]}: {error.message}") from error
    except (bolt.Neo4jError, bolt.DriverError, OSError) as error:
        raise StoreUnavailable(f"the graph is away: {error}") from error
