"""Write the published contract: one JSON Schema an event type. ``python -m nvp_agentkit.messages.schema``"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nvp_agentkit.messages.envelope import TYPES, Event

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"


def documents() -> dict[str, str]:
    """File name -> text: the envelope (`cloudevent.json`), and the ``data`` of each event type."""
    documents = {"cloudevent.json": _text(Event.model_json_schema())}
    for name, payload in sorted(TYPES.items()):
        schema = payload.model_json_schema(mode="validation")
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
        schema["title"] = name
        documents[f"{name}.json"] = _text(schema)
    return documents


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def main() -> None:
    for name, text in documents().items():
        (SCHEMAS / name).write_text(text)


if __name__ == "__main__":
    main()
