"""A real Neo4j Community without Docker: Maven's jars, the Java that arcadedb-embedded brings, a child on a tether.

Neo4j 5.26 asks for Java 17 or 21 and 2026 for 21 or newer. Both run on the bundled 25 as far as these tests
reach, and so neither depends on which Java a machine has.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from neo4j import AsyncGraphDatabase
from neo4j.exceptions import DriverError, Neo4jError

from nvp_agentkit.embedded import arcadedb, children, outside, place, server
from nvp_agentkit.embedded.server import Server
from nvp_agentkit.errors import StoreUnavailable
from nvp_agentkit.settings import Settings
from tests.stores import fetch

USER = DATABASE = "neo4j"
READY_S = 150.0  # 10 s on an idle machine, five times that on a busy one

JVM = (
    "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED", "--add-opens=java.base/java.lang=ALL-UNNAMED",
)  # fmt: skip

# A password that a test gets wrong on purpose must not lock the next test out.
CONFIGURATION = """\
server.bolt.listen_address={host}:{port}
server.http.enabled=false
server.https.enabled=false
server.memory.pagecache.size=64m
dbms.security.auth_max_failed_attempts=0
dbms.usage_report.enabled=false
"""


async def start(folder: Path, release: str) -> Server:
    """Start ``release``, which is there, on ``folder``; returns when it has answered a query."""
    return await server.start("neo4j", None, lambda port: _launch(folder, release, port), _answers, timeout_s=READY_S)


def uri(neo4j: Server) -> str:
    return f"bolt://{place.LOOPBACK}:{neo4j.port}"


def _launch(folder: Path, release: str, port: int) -> Server:
    (folder / "neo4j.conf").write_text(CONFIGURATION.format(host=place.LOOPBACK, port=port))
    main = "CommunityEntryPoint" if release.startswith("5.") else "Neo4jCommunity"
    command = [
        str(arcadedb.runtime() / "jre" / "bin" / "java"), *JVM, "-cp", f"{fetch.jars(release)}/*",
        f"org.neo4j.server.{main}", f"--home-dir={folder}", f"--config-dir={folder}",
    ]  # fmt: skip
    log = folder / "neo4j.log"
    process = children.launch(command, env={}, log=log, folder=folder, cwd=folder)
    return Server("neo4j", process, port, place.password_in(folder / "password"), log)


async def _answers(neo4j: Server) -> bool:
    first = AsyncGraphDatabase.driver(uri(neo4j), auth=(USER, "neo4j"), max_transaction_retry_time=0.0)
    async with first:
        with suppress(DriverError, Neo4jError, OSError):  # not there yet, or its first password is changed already
            await first.execute_query(
                "ALTER CURRENT USER SET PASSWORD FROM 'neo4j' TO $password",
                password=neo4j.password, database_="system",
            )  # fmt: skip
    try:
        await outside.check(Settings(neo4j_uri=uri(neo4j), neo4j_password=neo4j.password))
    except StoreUnavailable:
        return False
    return True
