"""docker-compose.yml and Dockerfile say what the code does: commands, variables, health checks, limits."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from jsonschema import Draft202012Validator

from nvp_agentkit.cli import deployment
from nvp_agentkit.cli.app import app
from nvp_agentkit.settings import Settings
from nvp_agentkit.workers.main import serve_of

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
BIN = Path(sys.executable).parent


def said(*command: str, **options: Any) -> tuple[int, str]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)
    return done.returncode, done.stdout + done.stderr


def test_compose_keeps_to_the_compose_specification() -> None:
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    specification = Draft202012Validator(json.loads(schema.read_text()))
    text = COMPOSE.read_text()
    assert list(specification.iter_errors(yaml.safe_load(text))) == []
    for wrong in ("stop_grace_time:", "mem_limits:"):
        right = wrong.replace("time", "period").replace("limits", "limit")
        assert list(specification.iter_errors(yaml.safe_load(text.replace(right, wrong))))


def test_compose_itself_takes_the_file() -> None:
    plugin = ["docker", "compose"]
    if not shutil.which("docker") or said(*plugin, "version")[0] != 0:
        plugin = [shutil.which("docker-compose") or pytest.skip("no compose v2 on PATH; the schema is checked anyway")]
    status, words = said(*plugin, "--env-file", ".env.example", "config", "--no-interpolate", "-q")
    assert status == 0, words


def test_the_dockerfile_passes_the_linter(tmp_path: Path) -> None:
    status, words = said(str(BIN / "hadolint"), "Dockerfile")
    assert status == 0, words
    assert said(str(BIN / "hadolint"), "-", input="FROM python:latest\n")[0] == 1


def test_every_worker_of_the_stack_is_a_service_and_no_other_is(ours: dict[str, Any], services: dict[str, Any]) -> None:
    assert set(services) == {"redis", "neo4j", *ours}
    for name in deployment.WORKERS:
        assert ours[name]["command"] == ["worker", name]
        assert serve_of(name)
    assert ours["keys"]["command"] == ["keys"]
    commands: Any = typer.main.get_command(app)
    assert {"worker", "keys"} <= set(commands.commands)


def test_every_variable_of_a_container_is_a_setting(ours: dict[str, Any]) -> None:
    known = {f"NVP_{name.upper()}" for name in Settings.model_fields}
    image = set(re.findall(r"\b(NVP_\w+)=", (ROOT / "Dockerfile").read_text()))
    named = {name for one in ours.values() for name in one["environment"] if name.startswith("NVP_")}
    assert named | image <= known
    assert "NVP_DATA_DIR" in image


def test_every_variable_that_compose_wants_is_in_the_example_and_the_other_way_round(example: dict[str, str]) -> None:
    wanted = set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE.read_text()))
    settings = {f"NVP_{name.upper()}" for name in Settings.model_fields}
    assert wanted <= set(example)
    assert set(example) - wanted <= settings


def test_every_worker_has_a_health_check_and_answers_it(ours: dict[str, Any]) -> None:
    for name in deployment.WORKERS:
        assert "/dev/tcp/127.0.0.1/$NVP_METRICS_PORT" in ours[name]["healthcheck"]["test"][3]
        assert Settings.from_env(ours[name]["environment"]).metrics_port


def test_what_waits_waits_for_health_and_for_the_keys(ours: dict[str, Any]) -> None:
    for name in deployment.WORKERS:
        conditions = {other: how["condition"] for other, how in ours[name]["depends_on"].items()}
        graph = {"neo4j": "service_healthy"} if name == "recorder" else {}
        assert conditions == {"redis": "service_healthy", "keys": "service_completed_successfully"} | graph


def test_only_the_recorder_knows_the_graph_s_password(ours: dict[str, Any]) -> None:
    assert [name for name, one in ours.items() if "NVP_NEO4J_PASSWORD" in one["environment"]] == ["recorder"]


def test_each_container_sees_its_own_private_key_and_no_other(ours: dict[str, Any]) -> None:
    own = {"inference": "voter-0", "shadow-1": "voter-1", "shadow-2": "voter-2", "tally": "tally"}
    keys = Settings(data_dir=Path("/nvp")).keys_dir
    for name in deployment.WORKERS:
        mounts = ours[name]["volumes"]
        (folder,) = [one for one in mounts if isinstance(one, dict) and one["target"] == str(keys)]
        assert folder["read_only"] is True
        hidden = {signer for signer in ("root", *deployment.SIGNERS) if f"/dev/null:{keys / signer}.key:ro" in mounts}
        assert {"root", *deployment.SIGNERS} - hidden == ({own[name]} if name in own else set()), name


def test_our_containers_may_do_little_and_can_be_many(ours: dict[str, Any]) -> None:
    for service in ours.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]
        assert not service.keys() & {"ports", "container_name", "hostname", "privileged", "network_mode"}


def test_the_stores_are_published_on_this_machine_alone(services: dict[str, Any]) -> None:
    for name in ("redis", "neo4j"):
        assert services[name]["mem_limit"]
        for port in services[name]["ports"]:
            assert port.startswith("127.0.0.1:")


def test_the_image_runs_as_nobody_in_particular() -> None:
    assert re.findall(r"^USER (.*)", (ROOT / "Dockerfile").read_text(), re.MULTILINE) == ["10001:10001"]
