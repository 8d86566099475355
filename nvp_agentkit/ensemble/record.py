"""Who votes in a domain, with which models and under which rule.

Every vote signs the digest of this record. So a tally that is broken or lies cannot put in another rule,
fewer members or another mask: the votes would not fit.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nvp_agentkit.ensemble.canonical import canonical_model
from nvp_agentkit.messages import ArrayRef, DomainName, ObjectRef, Payload
from nvp_agentkit.messages.values import digest_of

FEWEST_VOTERS = 3  # two voters can differ, but not tell which of them is broken

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
VoterName = Annotated[str, Field(pattern=r"^voter-[0-9]{1,4}$")]


def quorum_of(members: int) -> int:
    """ceil(2n/3): 2 of 3, 3 of 4, 5 of 7."""
    return -(-2 * members // 3)


class AgreementRule(Payload):
    """When two votes agree. Set once per ensemble by `calibrate_rule` from honest members on held-out data.

    Two votes agree when all four hold: RMS((m_i - m_j) / spread) <= limit; max |m_i - m_j| / spread <= peak_limit;
    mean |log_var_i - log_var_j| <= variance_limit; |mean(m_i - m_j)| / spread <= budget_limit. The spread is the
    rule's, never a voter's own claim: judged by its own variance, a vote scaled by 1.5 with 100 times the
    variance would pass. The peak is there because an RMS over a map hardly sees one wrong cell.

    Members that are each as sure as they should be are not sure enough together, by as much as their errors differ:
    ``doubt`` makes the variance of what they say together that of its error on held-out data.
    """

    version: Literal["rms-spread-1"] = "rms-spread-1"
    units: str = Field(max_length=64, description="unit of the field and of `spread`")
    spread: Positive = Field(description="RMS error of an honest member on held-out data")
    limit: Positive = Field(description="largest distance of an agreeing pair, in spreads")
    peak_limit: Positive = Field(description="largest difference of an agreeing pair in any cell, in spreads")
    variance_limit: Positive = Field(description="largest mean difference of log-variances, natural log")
    budget_limit: Positive = Field(description="largest difference of the mean energy, in spreads")
    quantile: float = Field(gt=0, lt=1, description="share of honest pairs within each limit before the margin")
    margin: float = Field(ge=1, description="factor from that quantile to the limit")
    pairs: int = Field(ge=1, description="honest pairs the quantile was taken of")
    doubt: tuple[Positive, ...] | None = Field(
        None, description="factor on the variance that 1, 2, ... n agreeing members claim together; 1 below a quorum"
    )

    @property
    def digest(self) -> str:
        return digest_of(canonical_model(self))


class Member(Payload):
    """One voter and the weights it votes with."""

    voter: VoterName
    model_id: str = Field(min_length=1, max_length=128)
    weights: ObjectRef


class EnsembleRecord(Payload):
    """The ensemble of a domain; the first member is the champion.

    ``rule`` is None where fewer than three members leave nothing to outvote: then only single answers.
    ``mask`` (1 valid, 0 not) leaves cells such as land out of every comparison of answers of its shape.
    """

    domain: DomainName
    members: tuple[Member, ...] = Field(min_length=1, max_length=7)
    rule: AgreementRule | None = None
    mask: ArrayRef | None = None
    frames: tuple[int, int, int] | None = Field(None, description="(K, H, W) a voter makes ready before it is asked")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.voters)) != len(self.members):
            raise ValueError(f"a voter stands twice among {', '.join(self.voters)}")
        if len(self.members) >= FEWEST_VOTERS and self.rule is None:
            raise ValueError(f"{len(self.members)} members need an agreement rule; see calibrate_rule")
        if self.rule and self.rule.doubt and len(self.rule.doubt) != len(self.members):
            raise ValueError(f"{len(self.members)} members, and a rule with {len(self.rule.doubt)} values of `doubt`")
        return self

    @property
    def voters(self) -> tuple[str, ...]:
        return tuple(member.voter for member in self.members)

    @property
    def champion(self) -> Member:
        return self.members[0]

    @property
    def quorum(self) -> int:
        """How many must agree."""
        return quorum_of(len(self.members))

    @property
    def digest(self) -> str:
        return digest_of(canonical_model(self))

    def model_of(self, voter: str) -> str | None:
        return next((member.model_id for member in self.members if member.voter == voter), None)
