"""``deploy/env.sh``: passwords that nobody has to think of, readable by their owner alone, made once."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "env.sh", tmp_path / "deploy")
    shutil.copy(ROOT / ".env.example", tmp_path)
    return tmp_path


def make(checkout: Path) -> str:
    done = subprocess.run([checkout / "deploy" / "env.sh"], cwd="/", capture_output=True, text=True, check=True)
    return done.stdout


def sourced(checkout: Path) -> dict[str, str]:
    """What a shell on this machine has after ``set -a; . ./.env``."""
    lines = subprocess.run(
        ["sh", "-c", "set -a; . ./.env; env"], cwd=checkout, env={}, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines if line.startswith("NVP_"))


def test_it_gives_passwords_the_callers_uid_and_the_folders_that_are_shared(
    checkout: Path, example: dict[str, str]
) -> None:
    assert "docker compose up" in make(checkout)
    assert (checkout / ".env").stat().st_mode & 0o777 == 0o600
    values = sourced(checkout)
    assert set(values) == set(example)
    assert (values["NVP_UID"], values["NVP_GID"]) == (str(os.getuid()), str(os.getgid()))
    passwords = {values["NVP_REDIS_PASSWORD"], values["NVP_NEO4J_PASSWORD"]}
    assert len(passwords) == 2
    assert all(len(password) >= 32 and password.isalnum() for password in passwords)
    assert values["NVP_REDIS_URL"] == f"redis://:{values['NVP_REDIS_PASSWORD']}@127.0.0.1:6379/0"
    for folder in ("artifacts", "keys"):
        assert (checkout / ".nvp" / folder).stat().st_mode & 0o777 == 0o700


def test_it_keeps_the_passwords_that_the_stores_know(checkout: Path) -> None:
    make(checkout)
    before = (checkout / ".env").read_text()
    assert "kept" in make(checkout)
    assert (checkout / ".env").read_text() == before
