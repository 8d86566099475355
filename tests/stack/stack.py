"""The composed stack as an operator has it: compose, the engine's view of the containers, `nvp` on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from engine import ROOT, Engine

from nvp_agentkit.embedded.place import free_port
from nvp_agentkit.settings import Settings

NAME = "nvp-test-stack"
OTHER_UID = 10001  # root's containers would be root: then the stack belongs to somebody else
# Who may still read the interpreter and the checkout, wherever root keeps them.
READ = "+dac_read_search"
AS_OTHER = ["setpriv", f"--reuid={OTHER_UID}", f"--regid={OTHER_UID}", "--clear-groups", "--inh-caps", READ,
            "--ambient-caps", READ]  # fmt: skip


@dataclass(frozen=True)
class Container:
    """What the engine knows of one."""

    id: str
    service: str
    host: str
    pid: int
    running: bool
    health: str
    restarts: int
    exit_code: int

    @classmethod
    def of(cls, seen: dict[str, Any]) -> Container:
        state = seen["State"]
        return cls(
            seen["Id"],
            seen["Config"]["Labels"]["com.docker.compose.service"],
            seen["Config"]["Hostname"],
            state["Pid"],
            state["Running"],
            (state.get("Health") or {}).get("Status", ""),
            seen.get("RestartCount", 0),
            state["ExitCode"],
        )


class Stack:
    """A project of its own beside the checkout: compose file, .env, shared folders, free ports."""

    def __init__(self, engine: Engine, project: Path) -> None:
        self._engine, self.project = engine, project
        self.uid = os.getuid() or OTHER_UID
        self.values: dict[str, str] = {}

    def prepare(self) -> None:
        """Lay the project out and have `deploy/env.sh` write .env, as whoever the containers will be."""
        shutil.rmtree(self.project, ignore_errors=True)
        self.project.mkdir(parents=True)
        for name in ("docker-compose.yml", ".env.example", "deploy"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, self.project / name)
        example = self.project / ".env.example"
        for port in ("6379", "7687"):
            example.write_text(example.read_text().replace(f"_PORT={port}", f"_PORT={free_port()}"))
        if os.getuid() == 0:
            for path in (self.project, *self.project.rglob("*")):
                os.chown(path, OTHER_UID, OTHER_UID)
        self._as_owner("deploy/env.sh")
        said = self._as_owner("sh", "-c", "set -a; . ./.env; env")
        self.values = dict(re.findall(r"^(NVP_\w+)=(.*)$", said, re.MULTILINE))

    @property
    def settings(self) -> Settings:
        """The owner's way to the stores, from this machine."""
        return Settings.from_env(self.values, data_dir=self.project / ".nvp")

    @property
    def services(self) -> dict[str, Any]:
        services: dict[str, Any] = yaml.safe_load((self.project / "docker-compose.yml").read_text())["services"]
        return services

    def compose(self, *arguments: str, timeout_s: float = 300) -> str:
        """Run compose; what it says if it fails is the error."""
        command = [*self._engine.compose, "--project-name", NAME, "--progress", "plain", *arguments]
        done = self._engine.run(*command, timeout_s=timeout_s, cwd=self.project)
        if done.returncode:
            raise RuntimeError(f"compose {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return done.stdout

    def up(self, *options: str) -> None:
        self.compose("up", "--detach", "--wait", "--no-build", "--pull", "missing", *options, timeout_s=400)

    def containers(self, service: str = "") -> list[Container]:
        """All containers of the project, or of one service."""
        label = f"label=com.docker.compose.project={NAME}"
        ids = self._engine.run(*self._engine.cli, "ps", "--all", "--quiet", "--filter", label).stdout.split()
        seen = json.loads(self._engine.run(*self._engine.cli, "inspect", *ids).stdout) if ids else []
        return [one for one in map(Container.of, seen) if service in ("", one.service)]

    def inside(self, container: Container, script: str) -> str:
        """What a shell in the container says."""
        return self._engine.run(*self._engine.cli, "exec", container.id, "sh", "-c", script).stdout.strip()

    def logs(self) -> str:
        return self.compose("logs", "--tail", "30")

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a program on this machine as the stack's owner, with the variables of .env."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NVP_")}
        return subprocess.Popen(
            [*([] if os.getuid() == self.uid else AS_OTHER), *command],
            cwd=self.project,
            env={**environment, **self.values, "HOME": str(self.project), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _as_owner(self, *command: str, timeout_s: float = 600) -> str:
        process = self.start(*command)
        said, _ = process.communicate(timeout=timeout_s)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said[-3000:]}")
        return said

    def nvp(self, *arguments: str) -> str:
        """What `nvp` on this machine says."""
        return self._as_owner(sys.executable, "-m", "nvp_agentkit.cli", *arguments)

    def ask(self, account: str, count: int, height: int, width: int, *, budget_j: int = 1) -> subprocess.Popen[str]:
        """Start an agent that wants so many forecasts, for so much each."""
        agent = str(Path(__file__).with_name("agent.py"))
        return self.start(sys.executable, agent, account, *map(str, (count, height, width, budget_j)))


def wait_for(what: str, look: Callable[[], object], *, within_s: float) -> Any:
    """Look again and again until there is something; that."""
    until = time.monotonic() + within_s
    while not (seen := look()):
        if time.monotonic() > until:
            raise RuntimeError(f"not within {within_s:g} s: {what}")
        time.sleep(0.25)
    return seen
