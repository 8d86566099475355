"""Every key this product has in Redis, in one place.

All keys of an account share its hash tag (the literal braces), which keeps them in one slot of a Redis Cluster.
A worker reads and settles all accounts' streams together, so today it needs a single server.
"""

from __future__ import annotations

from nvp_agentkit.settings import VOTERS

ACCOUNTS = "nvp:{registry}:accounts"
WORKERS = "nvp:{registry}:worker:"
SHORT = "nvp:{registry}:short"  # of memory, in words; no such key while the server has room

# Who reads what. All groups of a stream are made with it: an entry is forgotten once every group is
# done with it, and a group that came later would find its first entries gone.
GROUPS: dict[str, tuple[str, ...]] = {
    "jobs": ("training",),
    "urgent": ("training",),
    "cancel": ("training",),
    "service": ("training",),
    "predict": ("inference",),
    "ensemble": (*VOTERS, "tally"),
    "votes": ("tally",),
    "lineage": ("recorder",),
}

# What stays of an account for good, with its dead letters; every other key of it expires (tests and benchmarks look).
KEPT = frozenset({*GROUPS, "replies", "models", "deadlines"})


def key(account: str, suffix: str) -> str:
    """``nvp:{account}:suffix``; a suffix with a colon in it belongs to one request and has a TTL."""
    return f"nvp:{{{account}}}:{suffix}"


def lasts(suffix: str) -> bool:
    """True for keys that stay (``models``), False for those of one request (``case:REQUEST_ID``)."""
    return ":" not in suffix


def replies(account: str) -> str:
    return key(account, "replies")


def answers(account: str, request_id: str) -> str:
    """Hash event type -> event: what has been said to one request."""
    return key(account, f"reply:{request_id}")


def claim(account: str, request_id: str) -> str:
    """The entry that a request's id belongs to."""
    return key(account, f"asked:{request_id}")


def decided(request_id: str) -> str:
    """Marks a request's one final answer (a suffix): who sets it first has spoken, the others only acknowledge."""
    return f"decided:{request_id}"


def job(account: str, job_id: str) -> str:
    """The stream of one job's progress."""
    return key(account, f"job:{job_id}")


def attempts(account: str, job_id: str) -> str:
    """Hash of a job: how often (``fence``), by which ``attempt`` it was begun, and where its checkpoint is (``at``)."""
    return key(account, f"attempts:{job_id}")


def cancelled(account: str, job_id: str) -> str:
    """Why a job is wanted no more; no such key while it is."""
    return key(account, f"cancelled:{job_id}")


def given_back(stream: str, group: str, entry_id: str = "") -> str:
    """How often an entry was given back to be tried again."""
    return f"{stream}:given-back:{group}:{entry_id}"


def dead(stream: str) -> str:
    return f"{stream}:dead"


def handled(account: str) -> str:
    """What became of the account's dead letters."""
    return key(account, "dead:handled")


def worker(name: str, instance: str) -> str:
    """Where the worker ``name``, which may run several times, says how this one of it is."""
    return f"{WORKERS}{name}@{instance}"
