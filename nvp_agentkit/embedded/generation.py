"""Which version wrote a data folder, and what brings an older one up to date.

``DATA_DIR/version`` holds the number of the folder's format and the version of nvp that brought it there. A folder of
stores without that file is of format 1. Formats only ever go up, one step at a time; each step may be interrupted
anywhere and run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from nvp_agentkit import __version__
from nvp_agentkit.embedded import place
from nvp_agentkit.errors import StackError

FORMAT = 2


class Written(BaseModel):
    """The content of ``version``. Later versions may add fields; these two stay."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int
    nvp: str


def check(folder: Path) -> int:
    """The format of ``folder``, 0 for one without anything in it. Changes nothing.

    Raises:
        StackError: a later version of nvp wrote it, or the file cannot be read.
    """
    path = folder / "version"
    try:
        written = Written.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return int(any((folder / store).exists() for store in ("valkey", "arcadedb", "keys")))
    except ValidationError as error:
        raise StackError(f"{path} does not say which version of nvp wrote the folder; put the file back from a "
                         "backup, or choose another folder with --data-dir") from error
    if written.format > FORMAT:
        raise StackError(
            f"data folder {folder} was written by nvp {written.nvp} (format {written.format}), this is nvp "
            f"{__version__} and knows formats up to {FORMAT}: install {written.nvp} or later, or choose another "
            "folder with --data-dir"
        )
    return written.format


def bring_up_to_date(folder: Path) -> None:
    """Run the steps that ``folder`` lacks, in order. Only under its lock, with nothing running on it.

    Raises:
        As `check`.
    """
    found = check(folder)
    for number in range(found or FORMAT, FORMAT):
        STEPS[number](folder)
        _write(folder, number + 1)
    if found == 0:
        _write(folder, FORMAT)


def _write(folder: Path, number: int) -> None:
    place.write_private(folder / "version", Written(format=number, nvp=__version__).model_dump_json() + "\n")


def _drop_partial_artifacts(folder: Path) -> None:
    """1 -> 2: what killed writers left lay among the objects; from 2 on it is in one folder, cleared at a start."""
    for path in (folder / "artifacts" / "sha256").glob("*/.*"):
        path.unlink(missing_ok=True)


STEPS: Mapping[int, Callable[[Path], None]] = {1: _drop_partial_artifacts}
