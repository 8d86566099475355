"""A vote says what a voter answered; a broken model cannot sign one through the ordinary door."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvp_agentkit.ensemble import EnsembleRecord, open_vote, question, sign_vote
from nvp_agentkit.ensemble.keys import load_signer
from nvp_agentkit.ensemble.votes import make_vote, summarize
from nvp_agentkit.errors import InvalidField, UnknownModel, VerificationFailed


def test_a_signed_vote_opens_as_it_was(case):
    vote = case.vote("voter-1")
    assert open_vote(sign_vote(vote, load_signer(case.folder, "voter-1")).encode(), case.keys) == vote


def test_a_vote_names_its_model_its_rule_and_its_request(case):
    vote = case.vote("voter-1")
    assert (vote.model_id, vote.record, vote.request_id) == ("model:1", case.record.digest, "request-1")


def test_the_tally_cannot_vote(case):
    with pytest.raises(VerificationFailed, match="only a voter may sign"):
        open_vote(sign_vote(case.vote("voter-1"), load_signer(case.folder, "tally")), case.keys)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_yields_no_number_does_not_vote(value):
    mean = np.ones((16, 16), np.float32)
    mean[0, 0] = value
    with pytest.raises(InvalidField, match="1 of 256 valid cells not finite"):
        summarize(mean)


def test_a_stranger_does_not_vote(case):
    vote = case.vote("voter-0")
    with pytest.raises(UnknownModel, match="members: voter-0, voter-1, voter-2"):
        make_vote(case.record, "voter-7", case.answers["voter-0"].mean, refs=(vote.mean, vote.log_var),
                  request_id="r", request_digest=vote.request_digest, issued_at_ms=0)


def test_a_summary_states_total_range_and_spectral_bands():
    x = np.arange(64) / 64
    wave = np.broadcast_to(3 + np.sin(2 * np.pi * 4 * x) + 0.5 * np.sin(2 * np.pi * 20 * x), (64, 64))
    summary = summarize(wave)
    assert summary.sum == pytest.approx(3 * 64 * 64)
    assert summary.bands == pytest.approx((np.sqrt(0.5), np.sqrt(0.125), 0), abs=1e-9)


def test_a_summary_leaves_out_masked_cells():
    mean, mask = np.ones((16, 16)), np.ones((16, 16), bool)
    mean[:4], mask[:4] = np.nan, False
    summary = summarize(mean, mask)
    assert (summary.cells, summary.sum, summary.bands) == (192, 192, (0, 0, 0))
    with pytest.raises(InvalidField, match="every cell is masked"):
        summarize(mean, np.zeros_like(mask))
    assert summarize(mean[4:], mask).cells == 192  # a mask of another grid is not applied


def test_a_record_survives_its_json_with_its_digest(case):
    assert EnsembleRecord.model_validate_json(case.record.model_dump_json()).digest == case.record.digest


@pytest.mark.parametrize("changes", [{"rule": None}, {"members": "twice"}, {"members": ()}])
def test_a_record_that_cannot_decide_is_refused(case, changes):
    if changes.get("members") == "twice":
        changes = {"members": case.record.members + case.record.members[:1]}
    with pytest.raises(ValueError, match="validation error"):
        EnsembleRecord.model_validate(case.record.model_copy(update=changes).model_dump(warnings=False))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.lists(st.tuples(st.sampled_from(["voter-0", "voter-2", "nobody"]), st.text() | st.none())))
def test_junk_on_the_stream_changes_nothing(case, junk):
    sent = [case.said(voter, envelope=text, failed="" if text is None else None)
            for voter, text in junk]
    assert case.collect([*sent, *case.casts().values()]).votes.keys() == case.answers.keys()


def test_a_vote_too_large_for_a_certificate_is_refused(case):
    vote = case.vote("voter-1").model_copy(update={"model_id": "x" * 200_000})
    with pytest.raises(VerificationFailed, match="limit 131072"):
        open_vote(sign_vote(vote, load_signer(case.folder, "voter-1")), case.keys)


def test_the_question_is_what_most_voters_signed_not_what_the_first_one_says(case):
    """While an ensemble is being replaced, or when a broken voter is the quickest."""
    other = f"sha256:{'0' * 64}"
    first = case.cast("voter-2", record=other).model_copy(update={"record": other})
    unsigned = case.said("voter-0", failed="x").model_copy(update={"record": other})
    casts = [first, unsigned, *[case.cast(voter) for voter in ("voter-0", "voter-1")]]
    assert question(casts, keys=case.keys, request_id="request-1") == (casts[-1].request_digest, case.record.digest)
    assert question([unsigned], keys=case.keys, request_id="request-1") is None
    assert question(casts, keys=case.keys, request_id="request-2") is None
