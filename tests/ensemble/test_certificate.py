"""A certificate holds under the root key alone; what is not so cannot be certified, by the tally neither."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvp_agentkit.ensemble import Answer, RootOfTrust, init_keys, load_signer, references, verify
from nvp_agentkit.ensemble.canonical import canonical_model
from nvp_agentkit.ensemble.certificate import STATEMENT_TYPE, Statement, parse_statement
from nvp_agentkit.ensemble.dsse import decode
from nvp_agentkit.errors import InvalidInput, VerificationFailed

VOTERS = ("voter-0", "voter-1", "voter-2")


def shifted(answer: Answer) -> Answer:
    """Wrong, with the same total: no signed summary gives it away."""
    return Answer(np.roll(answer.mean, 2, axis=1), answer.log_var)


@pytest.fixture
def certificate(case) -> bytes:
    return case.certificate(case.casts().values())


@pytest.fixture
def remote(new_case):
    """The same, with the arrays in a store instead of inline."""
    return new_case(3, inline=False)


def by_lying_tally(case, certificate: bytes, change) -> bytes:
    """The certificate with another predicate, validly signed by the tally's own key."""
    predicate = parse_statement(decode(certificate).body).predicate
    statement = Statement.of(change(predicate))
    return load_signer(case.folder, "tally").sign(STATEMENT_TYPE, canonical_model(statement)).encode()


def with_outcome(predicate, **changes):
    return predicate.model_copy(update={"outcome": predicate.outcome.model_copy(update=changes)})


def test_a_certificate_is_recomputed_where_its_arrays_are_inline(case, certificate):
    verdict = verify(certificate, case.root)
    assert references(certificate) == ()
    assert verdict.recomputed
    assert verdict.agreed == VOTERS
    assert verdict.text == ("3 of 3 agree (voter-0, voter-1, voter-2); signatures, keys and rule hold; "
                            "agreement and answer recomputed from the votes' arrays")


def test_the_verdict_names_the_answer_the_request_the_models_and_the_payer(case, certificate):
    verdict = verify(certificate, case.root, request_id="request-1")
    assert (verdict.request_id, verdict.domain, verdict.account) == ("request-1", "plasma_physics", "ace-1")
    assert verdict.models == {"voter-0": "model:0", "voter-1": "model:1", "voter-2": "model:2"}
    assert verdict.mean.digest == case.place(case.decide(case.casts().values()).answer.mean).digest
    assert verdict.rule == case.record.rule


def test_it_is_an_in_toto_statement_about_both_arrays(certificate):
    envelope = json.loads(certificate)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert [(s["name"], len(s["digest"]["sha256"])) for s in statement["subject"]] == [("mean", 64), ("log_var", 64)]


def test_a_dissenter_on_another_grid_leaves_a_certificate_that_holds(case):
    mean, log_var = case.answers["voter-1"]
    casts = case.casts() | {"voter-1": case.cast("voter-1", Answer(mean[:8], log_var[:8]))}
    verdict = verify(case.certificate(casts.values()), case.root)
    assert verdict.recomputed
    assert "another grid" in verdict.dissent["voter-1"]


def test_without_the_arrays_it_says_that_the_agreement_was_not_recomputed(remote):
    certificate = remote.certificate(remote.casts().values())
    for fetch in (None, lambda ref: (_ for _ in ()).throw(FileNotFoundError(ref.uri))):
        verdict = verify(certificate, remote.root, fetch)
        assert not verdict.recomputed
        assert "agreement not recomputed" in verdict.text


def test_with_the_arrays_at_hand_it_is_recomputed(remote):
    certificate = remote.certificate(remote.casts().values())
    ahead = {ref.digest: remote.fetch(ref) for ref in references(certificate)}
    assert len(ahead) == 6
    assert verify(certificate, remote.root, lambda ref: ahead[ref.digest]).recomputed


def test_when_only_a_dissenters_arrays_are_gone_the_rest_is_recomputed(remote):
    wrong = shifted(remote.answers["voter-2"])
    casts = remote.casts() | {"voter-2": remote.cast("voter-2", wrong)}
    certificate = remote.certificate(casts.values())
    whole = verify(certificate, remote.root, remote.fetch)
    assert (whole.agreed, whole.unread) == (("voter-0", "voter-1"), ())
    del remote.store[remote.place(wrong.mean).digest]
    rest = verify(certificate, remote.root, remote.fetch)
    assert rest.recomputed
    assert rest.unread == ("voter-2",)
    assert "not compared again: voter-2" in rest.text


def test_a_masked_domain_is_recomputed_with_its_mask(remote):
    mask = np.ones((16, 16), np.float32)
    mask[:, :3] = 0
    remote.record = remote.record.model_copy(update={"mask": remote.place(mask)})
    remote.mask = mask > 0
    for voter, (mean, log_var) in remote.answers.items():
        land = [np.where(mask > 0, array, np.float32(np.nan)) for array in (mean, log_var)]
        remote.answers[voter] = Answer(*land)
    certificate = remote.certificate(remote.casts().values())
    assert verify(certificate, remote.root, remote.fetch).recomputed
    del remote.store[remote.record.mask.digest]
    assert not verify(certificate, remote.root, remote.fetch).recomputed


@pytest.mark.parametrize("place", [
    {"uri": "../../etc/passwd"}, {"uri": None, "inline": "AAAA"}, {"uri": None, "inline": "="}, {},
], ids=["no place of ours", "too short", "no base64", "other bytes"])
def test_a_dissenter_that_signed_unreadable_arrays_does_not_spoil_the_certificate(remote, place):
    nowhere = f"sha256:{'0' * 64}"
    mean = remote.vote("voter-2").mean.model_copy(update={"digest": nowhere, **place})
    casts = remote.casts() | {"voter-2": remote.cast("voter-2", mean=mean)}
    certificate = remote.certificate(casts.values())
    remote.store[nowhere] = np.zeros((2, 2), np.float32)
    verdict = verify(certificate, remote.root, remote.fetch)
    assert (verdict.agreed, verdict.unread) == (("voter-0", "voter-1"), ("voter-2",))


def test_a_voter_that_floods_does_not_swell_the_certificate(case):
    flood = [case.cast("voter-2", issued_at_ms=time) for time in range(50)]
    usual = case.certificate(case.casts().values())
    assert len(case.certificate([*case.casts().values(), *flood])) < 1.5 * len(usual)


def test_an_array_that_was_exchanged_in_the_store_fails(remote):
    certificate = remote.certificate(remote.casts().values())
    with pytest.raises(VerificationFailed, match="not the one that was signed"):
        verify(certificate, remote.root, lambda ref: remote.fetch(ref) + np.float32(1e-3))


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_fails(case, certificate, data):
    position = data.draw(st.integers(0, len(certificate) - 1))
    flipped = bytearray(certificate)
    flipped[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(VerificationFailed):
        verify(bytes(flipped), case.root)


def test_every_flipped_bit_outside_the_payload_fails(case, certificate):
    """Key id, signature, types and punctuation: DSSE itself leaves some of them unsigned."""
    frame = certificate.index(b'"payloadType"')
    for position in [*range(12), *range(frame - 4, len(certificate))]:
        for bit in range(8):
            flipped = bytearray(certificate)
            flipped[position] ^= 1 << bit
            with pytest.raises(VerificationFailed):
                verify(bytes(flipped), case.root)


@pytest.mark.parametrize("spoil", [
    lambda raw: raw[:-1], lambda raw: raw + b" ", lambda raw: json.dumps(json.loads(raw), indent=1).encode(),
    lambda raw: b"", lambda raw: raw[: len(raw) // 2],
], ids=["cut", "space", "indented", "empty", "half"])
def test_another_spelling_fails(case, certificate, spoil):
    with pytest.raises(VerificationFailed):
        verify(spoil(certificate), case.root)


def test_under_another_root_it_fails(case, certificate, tmp_path):
    with pytest.raises(VerificationFailed, match="the root did not certify"):
        verify(certificate, init_keys(tmp_path, ["tally"]))


def test_a_whole_forged_deployment_fails(case, new_case, tmp_path):
    """Somebody with own root, voters and tally, and a model that says anything."""
    init_keys(tmp_path, [*VOTERS, "tally"])
    case.folder, case.keys = tmp_path, type(case.keys).read(tmp_path)
    forged = case.certificate(case.casts().values())
    assert verify(forged, RootOfTrust.read(tmp_path / "root.pub")).recomputed
    with pytest.raises(VerificationFailed, match="the root did not certify"):
        verify(forged, case.root)


def test_a_voter_cannot_sign_a_certificate(case, certificate):
    statement = decode(certificate).body
    forged = load_signer(case.folder, "voter-0").sign(STATEMENT_TYPE, statement).encode()
    with pytest.raises(VerificationFailed, match="only a tally may sign"):
        verify(forged, case.root)


def test_a_certificate_of_another_request_fails(case, certificate):
    with pytest.raises(VerificationFailed, match="of another request: request-1"):
        verify(certificate, case.root, request_id="request-2")
    with pytest.raises(VerificationFailed, match="of another request field"):
        verify(certificate, case.root, request_digest=f"sha256:{'0' * 64}")


def test_a_tally_cannot_loosen_the_rule(case, certificate):
    def loosen(predicate):
        rule = predicate.ensemble.rule.model_copy(update={"limit": 1e9})
        return predicate.model_copy(update={"ensemble": predicate.ensemble.model_copy(update={"rule": rule})})

    with pytest.raises(VerificationFailed, match="another ensemble record"):
        verify(by_lying_tally(case, certificate, loosen), case.root)


@pytest.mark.parametrize(("doubt", "said"), [((1.0, 1.0), "vote of another"), ((1.0,) * 3, "3 values of `doubt`")])
def test_a_tally_cannot_shrink_the_ensemble(case, certificate, doubt, said):
    def shrink(predicate):
        rule = predicate.ensemble.rule.model_copy(update={"doubt": doubt})
        record = predicate.ensemble.model_copy(update={"members": predicate.ensemble.members[:2], "rule": rule})
        outcome = predicate.outcome.model_copy(update={"agreed": VOTERS[:2]})
        return predicate.model_copy(update={"ensemble": record, "outcome": outcome})

    with pytest.raises(VerificationFailed, match=said):
        verify(by_lying_tally(case, certificate, shrink), case.root)


@pytest.mark.parametrize(("changes", "said"), [
    ({"agreed": ("voter-0",), "dissent": {"voter-1": "x", "voter-2": "x"}}, "1 agree; of 3 members 2 must"),
    ({"agreed": ("voter-0",), "dissent": {"voter-1": "x", "voter-2": "x"}, "quorum": 1}, "1 agree; of 3 members 2"),
    ({"agreed": ("voter-0", "voter-0", "voter-1")}, "name each member once"),
    ({"agreed": ("voter-0", "voter-1")}, "name each member once"),
    ({"agreed": ("voter-0", "voter-1"), "missing": {"voter-2": "no vote"}}, "name each member once"),
    ({"measured": ()}, "not measured within the rule"),
])
def test_a_decision_that_does_not_follow_fails_without_any_array(case, certificate, changes, said):
    forged = by_lying_tally(case, certificate, lambda predicate: with_outcome(predicate, **changes))
    with pytest.raises(VerificationFailed, match=said):
        verify(forged, case.root)


def test_a_tally_cannot_count_a_voter_that_did_not_vote(case):
    casts = case.casts()
    del casts["voter-2"]
    forged = by_lying_tally(case, case.certificate(casts.values()),
                            lambda predicate: with_outcome(predicate, agreed=VOTERS, missing={}))
    with pytest.raises(VerificationFailed, match="without one valid vote"):
        verify(forged, case.root)


def test_a_tally_cannot_count_a_voter_that_said_two_things(case):
    casts = [*case.casts().values(), case.cast("voter-2", issued_at_ms=9)]
    forged = by_lying_tally(case, case.certificate(casts),
                            lambda predicate: with_outcome(predicate, agreed=VOTERS, dissent={}))
    with pytest.raises(VerificationFailed, match="without one valid vote"):
        verify(forged, case.root)


def test_a_tally_that_counts_a_scaled_vote_is_caught_by_the_signed_totals(remote):
    mean, log_var = remote.answers["voter-2"]
    forged = certificate_counting_all(remote, Answer(mean * np.float32(1.5), log_var))
    with pytest.raises(VerificationFailed, match="signed other totals"):
        verify(forged, remote.root)


def test_a_tally_that_counts_a_shifted_vote_is_caught_by_recomputing(remote):
    forged = certificate_counting_all(remote, shifted(remote.answers["voter-2"]))
    assert not verify(forged, remote.root).recomputed
    with pytest.raises(VerificationFailed, match="recomputed, the decision is another one"):
        verify(forged, remote.root, remote.fetch)


def test_a_tally_that_delivers_another_answer_is_caught_by_recomputing(remote):
    certificate = remote.certificate(remote.casts().values())
    other = remote.place(remote.answers["voter-0"].mean)
    forged = by_lying_tally(remote, certificate, lambda predicate: predicate.model_copy(update={"mean": other}))
    assert not verify(forged, remote.root).recomputed
    with pytest.raises(VerificationFailed, match="the answer's mean is another array"):
        verify(forged, remote.root, remote.fetch)


@pytest.mark.parametrize("changes", [{"units": "kJ"}, {"shape": (8, 32)}])
def test_an_answer_in_another_unit_or_shape_fails_without_any_array(remote, changes):
    certificate = remote.certificate(remote.casts().values())
    forged = by_lying_tally(remote, certificate, lambda predicate: predicate.model_copy(
        update={"mean": predicate.mean.model_copy(update=changes)}))
    with pytest.raises(VerificationFailed, match="the answer is"):
        verify(forged, remote.root)


def test_a_tally_that_flatters_its_measurements_is_caught_by_recomputing(case, certificate):
    def flatter(predicate):
        return with_outcome(predicate, measured=tuple(
            entry.model_copy(update={"distance": entry.distance / 2}) for entry in predicate.outcome.measured))

    with pytest.raises(VerificationFailed, match="differ by"):
        verify(by_lying_tally(case, certificate, flatter), case.root)


def test_an_answer_that_is_not_the_subject_fails(case, certificate):
    statement = parse_statement(decode(certificate).body)
    swapped = statement.model_copy(update={"subject": statement.subject[::-1]})
    forged = load_signer(case.folder, "tally").sign(STATEMENT_TYPE, canonical_model(swapped)).encode()
    with pytest.raises(VerificationFailed, match="not the same arrays"):
        verify(forged, case.root)


def test_an_abstention_cannot_be_certified(case):
    decision = case.decide([case.cast("voter-0")])
    answered = case.decide(case.casts().values())
    with pytest.raises(InvalidInput, match="abstained, 1 agree and 2 must"):
        case.certificate([case.cast("voter-0")], type(decision)(**{**vars(decision), "answer": answered.answer}))


def certificate_counting_all(case, wrong: Answer) -> bytes:
    """A lying tally counts voter-2 with the honest, and claims to have measured that it agrees."""
    casts = case.casts() | {"voter-2": case.cast("voter-2", wrong)}

    def lie(predicate):
        measured = tuple(entry.model_copy(update={"distance": 0.1, "peak": 0.2, "variance": 0.1, "budget": 0.0})
                         for entry in predicate.outcome.measured)
        return with_outcome(predicate, agreed=VOTERS, dissent={}, measured=measured)

    return by_lying_tally(case, case.certificate(casts.values()), lie)
