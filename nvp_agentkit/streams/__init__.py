"""Redis Streams: publish, deliver under a lease, complete atomically, reply.

    names       every key            accounts   the registry that workers watch
    connect     the way to Redis     scripts    server-side functions (lua/)
    consumer    the loop of every worker, made of
                intake (fair reading, take-over), claims (one entry a request), leases,
                verdict (what becomes of a message), handling
    fences      a long job's attempts, of which the newest alone moves its checkpoint
    cancelling  jobs that are wanted no more
    queue       what waits for a worker
    door        refuses what would be too much of it
    completion  the atomic end of a message
    dead        what nobody could use
    replies, progress                being answered
    health      heartbeats
    asyncapi    the streams as others read of them: writes schemas/asyncapi.json
"""

from redis.exceptions import RedisError

from nvp_agentkit.streams.accounts import known, register, require
from nvp_agentkit.streams.completion import Completion, complete, emit
from nvp_agentkit.streams.connect import AWAY, connect, store_errors
from nvp_agentkit.streams.consumer import Consumer
from nvp_agentkit.streams.dead import DeadLetter, dead_letters
from nvp_agentkit.streams.delivery import Delivery
from nvp_agentkit.streams.door import Door
from nvp_agentkit.streams.handling import Handle, one_by_one
from nvp_agentkit.streams.replies import ReplyReader, answer, publish
from nvp_agentkit.streams.verdict import Outcome, Refuse

__all__ = [
    "AWAY", "Completion", "Consumer", "DeadLetter", "Delivery", "Door", "Handle", "Outcome", "RedisError", "Refuse",
    "ReplyReader", "answer", "complete", "connect", "dead_letters", "emit", "known", "one_by_one", "publish",
    "register", "require", "store_errors",
]
