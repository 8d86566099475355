"""Write the published contract's streams, an AsyncAPI 3 document. ``python -m nvp_agentkit.streams.asyncapi``

Seen from an agent: it sends on six streams of its account, and reads what is said on the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nvp_agentkit import messages as m
from nvp_agentkit.messages.envelope import TYPE_OF
from nvp_agentkit.messages.schema import SCHEMAS, text_of
from nvp_agentkit.streams import names
from nvp_agentkit.streams.completion import REPLY_TTL_S
from nvp_agentkit.streams.progress import TTL_S

FILE = "asyncapi.json"

# AsyncAPI writes a parameter in braces and so does Redis a hash tag: the parameter's value brings its own along.
ACCOUNT, JOB, REQUEST = "account", "{job}", "{request}"

Types = tuple[type[m.Payload], ...]
REQUESTS: Types = (m.PredictionRequested, m.JobRequested, m.ServiceChangeRequested)
ANSWERS: Types = (
    m.PredictionCompleted, m.PredictionCertified, m.PredictionAbstained, m.PredictionRefused,
    m.JobCompleted, m.JobRefused, m.JobSuspended, m.JobFailed, m.ServiceChanged, m.ServiceChangeRefused,
)  # fmt: skip


@dataclass(frozen=True)
class Channel:
    """A stream of an account."""

    address: str
    says: str
    carries: Types


@dataclass(frozen=True)
class Operation:
    """What an agent may do with a channel, and what it is answered on `replies`."""

    action: str
    channel: str
    says: str
    answers: Types = ()


CHANNELS = {
    "predict": Channel(names.key(ACCOUNT, "predict"), "Requests for one model's forecast.", (m.PredictionRequested,)),
    "ensemble": Channel(names.key(ACCOUNT, "ensemble"), "Requests for a quorum's forecast.", (m.PredictionRequested,)),
    "jobs": Channel(names.key(ACCOUNT, "jobs"), "Requests that take a while.", (m.JobRequested,)),
    "urgent": Channel(names.key(ACCOUNT, "urgent"), "Jobs that go before those.", (m.JobRequested,)),
    "cancel": Channel(names.key(ACCOUNT, "cancel"), "Jobs that are wanted no more.", (m.JobCancelRequested,)),
    "service": Channel(
        names.key(ACCOUNT, "service"), "Requests to put another ensemble into service.", (m.ServiceChangeRequested,)
    ),
    "replies": Channel(
        names.replies(ACCOUNT),
        "Answers to all requests of the account; the newest thousand stay. Each is kept besides for "
        f"{REPLY_TTL_S} s in the hash {names.answers(ACCOUNT, REQUEST)}, one field an event type.",
        ANSWERS,
    ),
    "job": Channel(
        names.job(ACCOUNT, JOB), f"One job's progress, kept for {TTL_S} s after its last line.", (m.JobProgressed,)
    ),
    "votes": Channel(names.key(ACCOUNT, "votes"), "What voters said, until it is counted.", (m.VoteCast,)),
    "lineage": Channel(names.key(ACCOUNT, "lineage"), "Facts on their way into the graph.", (m.LineageRecorded,)),
}
OPERATIONS = {
    "askForecast": Operation(
        "send", "predict", "Ask for the next frame.", (m.PredictionCompleted, m.PredictionRefused)
    ),
    "askQuorum": Operation(
        "send", "ensemble", "Ask for the next frame and a certificate that two thirds of the voters agree on it.",
        (m.PredictionCertified, m.PredictionAbstained, m.PredictionRefused),
    ),
    "askJob": Operation(
        "send", "jobs", "Have data made, a file taken in, or an ensemble trained.",
        (m.JobCompleted, m.JobRefused, m.JobSuspended, m.JobFailed),
    ),
    "askUrgently": Operation(
        "send", "urgent", "Have a job begun before those of `jobs`, but for every fourth.",
        (m.JobCompleted, m.JobRefused, m.JobSuspended, m.JobFailed),
    ),
    "cancelJob": Operation("send", "cancel", "Take a job back; its own answer says `cancelled`."),
    "changeService": Operation(
        "send", "service", "Promote an ensemble, try one on a share of the requests, or go back.",
        (m.ServiceChanged, m.ServiceChangeRefused),
    ),
    "followJob": Operation("receive", "job", "See how a job is getting on."),
    "watchVotes": Operation("receive", "votes", "See votes pass by."),
    "watchFacts": Operation("receive", "lineage", "See facts pass by."),
}  # fmt: skip
COMMANDS = {"send": "`XADD ADDRESS * event EVENT`", "receive": "`XREAD BLOCK 1000 STREAMS ADDRESS POSITION`"}


def document() -> str:
    """The text of ``schemas/asyncapi.json``."""
    return text_of(
        {
            "asyncapi": "3.0.0",
            "info": _info(),
            "defaultContentType": "application/cloudevents+json",
            "servers": {"streams": _server()},
            "channels": {name: _channel(channel) for name, channel in CHANNELS.items()},
            "operations": {name: _operation(operation) for name, operation in OPERATIONS.items()},
            "components": {
                "securitySchemes": {"account": {"type": "userPassword", "description": "An account has its own user."}},
                "messages": {kind.__name__: _message(kind) for kind in TYPE_OF},
            },
        }
    )


def _info() -> dict[str, Any]:
    return {
        "title": "NVP AgentKit",
        "version": "v1",  # of the event types, which carry it in their names
        "description": "Forecasts of 2-D energy fields under a budget in joules. Every message is a CloudEvents 1.0 "
        "event, structured JSON, in the field `event` of an entry of a Redis stream. Readers ignore attributes and "
        "fields they do not know; writers invent none.",
        "license": {"name": "Apache-2.0"},
    }


def _server() -> dict[str, Any]:
    return {
        "host": "{host}:{port}",
        "protocol": "redis",
        "description": "Redis 6.2 or newer, or Valkey.",
        "variables": {"host": {"default": "127.0.0.1"}, "port": {"default": "6379"}},
        "security": [_ref("components", "securitySchemes", "account")],
    }


def _channel(channel: Channel) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        ACCOUNT: {"description": "The account's name in braces; they are part of the key.", "examples": ["{ace-1}"]}
    }
    if JOB in channel.address:
        parameters["job"] = {"description": "The id of the event that asked for the job."}
    return {
        "address": channel.address,
        "description": channel.says,
        "parameters": parameters,
        "messages": {kind.__name__: _ref("components", "messages", kind.__name__) for kind in channel.carries},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "action": operation.action,
        "channel": _ref("channels", operation.channel),
        "summary": operation.says,
        "description": COMMANDS[operation.action],
        "messages": _carried(operation.channel, CHANNELS[operation.channel].carries),
    }
    if operation.answers:
        answers = _carried("replies", operation.answers)
        described["reply"] = {"channel": _ref("channels", "replies"), "messages": answers}
    return described


def _message(kind: type[m.Payload]) -> dict[str, Any]:
    """One event type: the envelope with the attributes it cannot do without, and its own data."""
    name = TYPE_OF[kind]
    needs = ["budgetmj"] if kind in REQUESTS else ["replyto"] if kind in ANSWERS else []
    described: dict[str, Any] = {
        "name": name,
        "title": kind.__name__,
        "summary": (kind.__doc__ or "").partition("\n")[0],
        "payload": {
            "schemaFormat": "application/schema+json;version=2020-12",
            "schema": {
                "allOf": [
                    {"$ref": "./cloudevent.json"},
                    {"required": needs, "properties": {"type": {"const": name}, "data": {"$ref": f"./{name}.json"}}},
                ]
            },
        },
    }
    if kind in REQUESTS:
        described["correlationId"] = {"location": "$message.payload#/id"}
    if kind in ANSWERS:
        described["correlationId"] = {"location": "$message.payload#/replyto"}
        said = {"replyto": "As in the event: the request's id.", "type": "As in the event."}
        properties = {field: {"type": "string", "description": text} for field, text in said.items()}
        described["headers"] = {"description": "More fields of the entry.", "type": "object", "properties": properties}
    return described


def _carried(channel: str, kinds: Types) -> list[dict[str, str]]:
    return [_ref("channels", channel, "messages", kind.__name__) for kind in kinds]


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(path)}


def main() -> None:
    (SCHEMAS / FILE).write_text(document())


if __name__ == "__main__":
    main()
