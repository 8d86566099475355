"""ArcadeDB as a child process: the lineage graph over Bolt without a Neo4j or a Java to install.

``arcadedb-embedded`` is used for the jars and the Java runtime that it carries; its Python code is not
imported. HTTP comes up beside Bolt and cannot be turned off, so both get a free port on 127.0.0.1 and
share the generated password, which travels by file.
"""

from __future__ import annotations

from pathlib import Path

from neo4j import AsyncGraphDatabase
from neo4j.exceptions import DriverError, Neo4jError

from nvp_agentkit.embedded import children, place, server
from nvp_agentkit.embedded.server import Server
from nvp_agentkit.errors import MissingExtra

USER = "root"
DATABASE = "nvp"
READY_S = 60.0  # 3-5 s on an idle machine, several times that on a busy one
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
        PortTaken: the asked port is in use.
        StoreEnded: the server ended meanwhile; the text holds the end of its log.
        MissingExtra: arcadedb-embedded is not installed.
    """
    return await server.start(
        "arcadedb", port, lambda free: _launch(folder.resolve(), free), _answers, timeout_s=READY_S
    )


def uri(arcadedb: Server) -> str:
    """Where drivers connect to."""
    return f"bolt://{place.LOOPBACK}:{arcadedb.port}"


def _launch(folder: Path, port: int) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    password = place.password_in(folder / "password")
    log = folder / "arcadedb.log"
    log.write_bytes(b"")
    process = children.launch(_command(folder, port), env={}, log=log, folder=folder, cwd=folder)
    return Server("arcadedb", process, port, password, log)


async def _answers(arcadedb: Server) -> bool:
    auth = (USER, arcadedb.password)
    async with AsyncGraphDatabase.driver(uri(arcadedb), auth=auth, connection_timeout=2.0) as driver:
        try:
            async with driver.session(database=DATABASE) as session, await session.begin_transaction() as transaction:
                return await (await transaction.run("RETURN 1 AS one")).single() is not None
        except (DriverError, Neo4jError, OSError):  # not yet there, no database yet, or somebody else's server
            return False


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
    package = place.package_folder("arcadedb_embedded")
    if package is None:
        raise MissingExtra.of("arcadedb-embedded", extra="embedded")
    return package
