"""The shadow ensemble: independent voters, an agreement rule, and a certificate anybody can check.

Pure: no network, no clock, no store. A worker that votes uses `make_vote` and `sign_vote`; a tally
`collect`, `decide` and `certify`; training `calibrate_rule`; whoever doubts, `verify`.

A tally that can be recomputed masks f broken voters of n >= 2f + 1 (3 voters: one fault of any kind).
Agreement among tallies that distrust each other would need n >= 3f + 1; they are not asked to agree.
"""

from nvp_agentkit.ensemble.agreement import Answer
from nvp_agentkit.ensemble.ballots import Ballots, collect, question
from nvp_agentkit.ensemble.calibration import calibrate_rule
from nvp_agentkit.ensemble.certificate import certify
from nvp_agentkit.ensemble.decision import Decision, decide
from nvp_agentkit.ensemble.keys import KeyRing, RootOfTrust, Signer, init_keys, load_signer
from nvp_agentkit.ensemble.record import AgreementRule, EnsembleRecord, Member
from nvp_agentkit.ensemble.verify import Verdict, references, verify, votes_in
from nvp_agentkit.ensemble.votes import Vote, make_vote, open_vote, sign_vote

__all__ = [
    "AgreementRule", "Answer", "Ballots", "Decision", "EnsembleRecord", "KeyRing", "Member", "RootOfTrust", "Signer",
    "Verdict", "Vote", "calibrate_rule", "certify", "collect", "decide", "init_keys", "load_signer", "make_vote",
    "open_vote", "question", "references", "sign_vote", "verify", "votes_in",
]
