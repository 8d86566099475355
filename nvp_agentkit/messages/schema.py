"""Write the published contract: one JSON Schema an event type. ``python -m nvp_agentkit.messages.schema``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nvp_agentkit.messages.envelope import TYPES, Event, schema_uri

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"


def documents() -> dict[str, str]:
    """File name -> text: the envelope (`cloudevent.json`), and the ``data`` of each event type."""
    models: dict[str, type[BaseModel]] = {"cloudevent": Event, **TYPES}
    return {f"{name}.json": text_of(_schema(name, model)) for name, model in sorted(models.items())}


def text_of(document: dict[str, Any]) -> str:
    """A document as it is committed: the same text each time."""
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _schema(name: str, model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(mode="validation")
    return schema | {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": schema_uri(name), "title": name}


def main() -> None:
    for name, text in documents().items():
        (SCHEMAS / name).write_text(text)


if __name__ == "__main__":
    main()
