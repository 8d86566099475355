"""Ten: without our client. A request is a CloudEvent in a field of a stream; JSON and Redis are all it takes."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np


async def test_a_request_written_by_hand_is_answered(login, ensemble, field) -> None:
    raw = field[-1].astype("<f4").tobytes()
    now = datetime.now(UTC)
    request = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "urn:example:a-script",
        "type": "nvp.prediction.requested.v1",
        "time": now.isoformat(),
        "deadline": (now + timedelta(seconds=60)).isoformat(),
        "budgetmj": "1000",  # a decimal string, for CloudEvents' integers have 32 bits
        "data": {
            "domain": "plasma_physics",
            "field": {
                "shape": [32, 32],
                "digest": "sha256:" + hashlib.sha256(raw).hexdigest(),
                "inline": base64.b64encode(raw).decode(),
            },
        },
    }
    await login.xadd("nvp:{ace-1}:predict", {"event": json.dumps(request)})
    position = "0-0"
    answer = None
    while answer is None:
        ((_, entries),) = await login.xread({"nvp:{ace-1}:replies": position}, block=60_000)
        for position, entry in entries:  # noqa: B007  the next read goes on from there
            if entry[b"replyto"].decode() == request["id"]:
                answer = json.loads(entry[b"event"])
    assert answer["type"] == "nvp.prediction.completed.v1"
    assert answer["data"]["mean"]["shape"] == [32, 32]
    assert np.prod(answer["data"]["mean"]["shape"]) == field[-1].size
