"""ArcadeDB as a child process: the lineage graph over Bolt without a Neo4j or a Java to install.

``arcadedb-embedded`` is used for the jars and the Java runtime that it carries; its Python code is not
imported. HTTP comes up beside Bolt and cannot be turned off, so both get a free port on 127.0.0.1 and
share the generated password, which travels by file.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from neo4j import READ_ACCESS, AsyncDriver, AsyncGraphDatabase
from neo4j.exceptions import DriverError, Neo4jError

from nvp_agentkit.embedded import place, tether
from nvp_agentkit.embedded.server import Server, until_ready
from nvp_agentkit.errors import MissingExtra, PortTaken, StackError

USER = "root"
DATABASE = "nvp"
READY_S = 60.0  # 3-5 s on an idle machine, several times that on a busy one
PORT_ATTEMPTS = 5
HEAP_MB = 256

JVM = (
    f"-Xmx{HEAP_MB}m", "-Xms32m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=48m",
    "-XX:MaxDirectMemorySize=64m", "-XX:-UsePerfData", "-XX:+UseCompactObjectHeaders", "-Xss512k",
    "--add-modules=jdk.incubator.vector", "--enable-native-access=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED",
    "--add-opens=java.base/java.nio.channels.spi=ALL-UNNAMED", "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "-Djava.awt.headless=true", "-Dfile.encoding=UTF8", "-Dpolyglot.engine.WarnInterpreterOnly=false",
)  # fmt: skip


async def start(folder: Path, *, port: int | None = None) -> Server:
    """Start ArcadeDB on ``folder``; returns when a query on database `DATABASE` was answered.

    Call it from the main thread. Ten ``kill -9`` under three writers lost no acknowledged write.

    Raises:
        PortTaken: the asked port is in use. A generated port that is lost in a race is replaced silently.
        StackError: the server ended by itself; the text holds the end of its log.
    """
    for _ in range(PORT_ATTEMPTS):
        try:
            return await _start_once(folder.resolve(), place.claim_port(port, store="arcadedb"))
        except PortTaken:
            if port is not None:
                raise
    raise StackError(f"arcadedb: {PORT_ATTEMPTS} free ports in a row were taken by other programs; try again")


def uri(server: Server) -> str:
    """Where drivers connect to."""
    return f"bolt://{place.LOOPBACK}:{server.port}"


async def _start_once(folder: Path, port: int) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    password = place.password_in(folder / "password")
    log = folder / "arcadedb.log"
    log.write_bytes(b"")
    process = tether.launch(_command(folder, port), env={}, log=log, cwd=folder)
    server = Server("arcadedb", process, port, password, log)
    async with AsyncGraphDatabase.driver(
        uri(server), auth=(USER, password), connection_timeout=2.0, connection_acquisition_timeout=2.0,
        max_transaction_retry_time=0.0,
    ) as driver:  # fmt: skip
        return await until_ready(server, lambda: _answers(driver), timeout_s=READY_S)


async def _answers(driver: AsyncDriver) -> bool:
    try:
        async with driver.session(database=DATABASE, default_access_mode=READ_ACCESS) as session:
            return bool(await session.execute_read(_one))
    except (DriverError, Neo4jError, OSError):
        return False


async def _one(transaction) -> bool:  # type: ignore[no-untyped-def]
    result = await transaction.run("RETURN 1 AS one")
    return (await result.single())["one"] == 1


def _command(folder: Path, port: int) -> list[str]:
    home = runtime()
    settings = {
        "server.rootPath": folder,
        "server.databaseDirectory": folder / "databases",
        "server.rootPasswordPath": folder / "password",
        "server.defaultDatabases": f"{DATABASE}[]",
        "server.mode": "production",
        "server.plugins": "Bolt:com.arcadedb.bolt.BoltProtocolPlugin",
        "server.httpIncomingHost": place.LOOPBACK,
        "server.httpIncomingPort": place.free_port(),
        "bolt.host": place.LOOPBACK,
        "bolt.port": port,
        "bolt.defaultDatabase": DATABASE,
    }
    return [
        str(home / "jre" / "bin" / "java"), *JVM,
        *(f"-Darcadedb.{name}={value}" for name, value in settings.items()),
        "-cp", f"{home / 'jars'}/*", "com.arcadedb.server.ArcadeDBServer",
    ]  # fmt: skip


def runtime() -> Path:
    """The folder with ``jars/`` and ``jre/``.

    Raises:
        MissingExtra: arcadedb-embedded is not installed.
    """
    found = importlib.util.find_spec("arcadedb_embedded")  # finds without running its __init__
    if found is None or not found.submodule_search_locations:
        raise MissingExtra.of("arcadedb-embedded", extra="embedded")
    return Path(found.submodule_search_locations[0])
