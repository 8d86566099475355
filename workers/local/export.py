"""``python -m workers.local.export OPTIONS``: a model as a folder. ``OPTIONS`` is JSON from `nvp model export`."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from nvp_agentkit.model.export import export_model, exported_bytes, size_of
from nvp_agentkit.model.storage import read_bounded

from . import programs as local


def read(path: Path) -> bytes:
    """The model's file, or that in a folder that was exported."""
    return exported_bytes(path) if path.is_dir() else read_bounded(path)


def export(options: dict[str, Any]) -> dict[str, Any]:
    """Write the folder; what is in it."""
    folder, sizes = Path(options["folder"]), [size_of(one) for one in options["sizes"]]
    model_id = export_model(read(Path(options["model"])), folder, sizes)
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    print(f"{model_id} in {folder}:")
    for name, size in files.items():
        print(f"  {name:<28} {size:>12,} bytes")
    print(f"{folder / 'README.md'} has the Python that runs it with jax alone")
    return {"model_id": model_id, "folder": str(folder), "files": files}


def main(arguments: list[str]) -> int:
    options = json.loads(arguments[0])
    return local.answer(partial(export, options), as_json=options["as_json"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
