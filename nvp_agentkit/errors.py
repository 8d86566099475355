"""Every error this package raises on purpose, as one tree.

    NvpError
    |- InvalidInput (ValueError)        the caller must change what was sent
    |  |- InvalidField                  shape, dtype, NaN, size of an array
    |  |- InvalidMessage                bytes on a stream that are no known event
    |  |- InvalidFile                   a data file that cannot be read safely
    |  `- DigestMismatch                the bytes are not the ones that were named
    |- UnknownName (LookupError)        account, domain or model that nobody registered
    |  |- UnknownAccount
    |  |- UnknownDomain
    |  `- UnknownModel
    |- BudgetError
    |  |- InsufficientJoules            the account cannot pay
    |  |- BudgetTooSmall                the budget buys no useful result
    |  `- BudgetExhausted               spent while working
    |- AccountFull                      as much of the account waits as may; nothing was done, ask again later
    |- NoRoom                           no memory is left for a model beside what serves
    |- NotReady                         nothing was changed, for who would have to answer cannot yet; ask again later
    |- DeadlineExceeded (TimeoutError)
    |- Cancelled                        whoever asked for it wants it no more, or another worker has it
    |- QuorumAbstained                  the voters did not agree; there is no answer to believe
    |- VerificationFailed               a signature, key or rule does not hold
    |- ConflictingFact                  one id, two digests
    |- PluginFailed                     a package of somebody else's does not do what a plug-in has to
    |- ComputeFailed                    the compute child died or broke (retryable)
    |  `- ChildDied                     it died of the very step that was asked of it
    |- StoreUnavailable (ConnectionError)  Redis, graph or artifacts away (retryable)
    |  `- ResultNotKept                 no disk or store took what was done; done again it would be paid again
    |- StackError                       the local stack cannot start or is not there
    |  |- PortTaken
    |  |- StoreEnded                    a store ended while it was being started
    |  |- DataFolderInUse
    |  `- StackNotRunning
    `- MissingExtra (ImportError)       an optional dependency is not installed

The text of an error names the value, the limit and the remedy. ``retryable``: a worker that meets it
sends the message round again, keeps the checkpoint, lets the reservation stand; any other becomes a reply. ``code``
is what travels: a refusal on the wire is raised again at the client as the class of that code.
"""

from __future__ import annotations

from typing import ClassVar

RETRY_AFTER_S = 5.0  # after that what is full, or away, is worth another look


class NvpError(Exception):
    """Root of the tree."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    energy: object = None  # the `Reading` of the work that ended so, where some of it was done
    request_id: str | None = None  # what was asked, for whoever may wait for it again: `AgentClient.result`, `.job`
    retry_after_s: float | None = None  # when the same may be asked again; None: something has to change first


class InvalidInput(NvpError, ValueError):
    code = "invalid_input"


class InvalidField(InvalidInput):
    code = "invalid_field"


class InvalidMessage(InvalidInput):
    code = "invalid_message"


class InvalidFile(InvalidInput):
    code = "invalid_file"


class DigestMismatch(InvalidInput):
    code = "digest_mismatch"


class UnknownName(NvpError, LookupError):
    code = "unknown_name"


class UnknownAccount(UnknownName):
    code = "unknown_account"


class UnknownDomain(UnknownName):
    code = "unknown_domain"


class UnknownModel(UnknownName):
    code = "unknown_model"


class BudgetError(NvpError):
    code = "budget"


class InsufficientJoules(BudgetError):
    code = "insufficient_joules"


class BudgetTooSmall(BudgetError):
    code = "budget_too_small"

    def __init__(self, detail: str, *, needed_mj: int | None = None) -> None:
        super().__init__(detail)
        self.needed_mj = needed_mj


class BudgetExhausted(BudgetError):
    code = "budget_exhausted"


class AccountFull(NvpError):
    code = "account_full"
    retry_after_s = RETRY_AFTER_S


class NoRoom(NvpError):
    code = "no_room"


class NotReady(NvpError):
    code = "not_ready"
    retry_after_s = RETRY_AFTER_S


class DeadlineExceeded(NvpError, TimeoutError):
    code = "deadline_exceeded"


class Cancelled(NvpError):
    code = "cancelled"


class QuorumAbstained(NvpError):
    code = "quorum_abstained"


class VerificationFailed(NvpError):
    code = "verification_failed"


class ConflictingFact(NvpError):
    code = "conflicting_fact"


class PluginFailed(NvpError):
    code = "plugin_failed"


class ComputeFailed(NvpError):
    code = "compute_failed"
    retryable = True


class ChildDied(ComputeFailed):
    """On the wire a `ComputeFailed`: to the asker it is the same."""


class StoreUnavailable(NvpError, ConnectionError):
    code = "store_unavailable"
    retryable = True
    retry_after_s = RETRY_AFTER_S


class ResultNotKept(StoreUnavailable):
    """On the wire a `StoreUnavailable`: to the asker it is the same."""

    retryable = False


class StackError(NvpError):
    code = "stack"


class PortTaken(StackError):
    code = "port_taken"


class StoreEnded(StackError):
    code = "store_ended"


class DataFolderInUse(StackError):
    code = "data_folder_in_use"


class StackNotRunning(StackError):
    code = "stack_not_running"


class MissingExtra(NvpError, ImportError):
    """An optional dependency is missing: ``MissingExtra.of("jax", extra="model")``."""

    code = "missing_extra"

    @classmethod
    def of(cls, module: str, *, extra: str) -> MissingExtra:
        """The error for ``module``, naming the command that installs it."""
        return cls(f"{module} is not installed; pip install 'nvp-agentkit[{extra}]'")


def _walk(cls: type[NvpError]) -> dict[str, type[NvpError]]:
    found: dict[str, type[NvpError]] = {}
    for child in cls.__subclasses__():
        found |= _walk(child)
    return found | {cls.code: cls}


def from_wire(code: str, detail: str, retry_after_s: float | None = None) -> NvpError:
    """The error a reply speaks of; an unknown code (a newer server) is a plain `NvpError`."""
    error = _walk(NvpError).get(code, NvpError)(detail)
    error.retry_after_s = retry_after_s or error.retry_after_s
    return error
