"""Which ensemble an entry of a stream means: a matter of its id and of the request's, and of nobody's clock."""

from __future__ import annotations

import pytest

from nvp_agentkit.ensemble.service import Change, Service, Standing, alias_of, domains
from nvp_agentkit.errors import UnknownModel

A, B, C = ("sha256:" + digit * 64 for digit in "abc")


def promoted(ensemble: str, since_ms: int, over: str | None = None) -> Change:
    return Change(place="champion", ensemble=ensemble, over=over, by="job", since_ms=since_ms)


def tried(ensemble: str, since_ms: int, share: float = 0.0) -> Change:
    return Change(place="challenger", ensemble=ensemble, share=share, by="job", since_ms=since_ms)


@pytest.mark.parametrize(
    ("entry_ms", "serves", "before"), [(5, A, None), (19, A, None), (20, B, A), (29, B, A), (30, A, B), (99, A, B)]
)
def test_a_request_means_the_ensemble_that_served_in_the_millisecond_of_its_entry(entry_ms, serves, before) -> None:
    service = Service(None, (promoted(A, 10), promoted(B, 20, A), promoted(A, 30, B)))
    assert service.at(entry_ms) == Standing(serves, previous=before)


def test_who_served_before_any_change_that_is_kept_is_known_from_the_first_that_is() -> None:
    assert Service(A, ()).at(7) == Standing(A)
    assert Service(A, (promoted(C, 20, B),)).at(7) == Standing(B), "later changes than the first were forgotten"
    assert Service(A, (promoted(C, 20),)).at(7) == Standing(A)
    assert Service().at() == Standing()


def test_a_trial_begins_is_changed_and_ends_with_the_champion_that_it_was_against() -> None:
    service = Service(A, (tried(B, 10, 0.5), tried(B, 20, 0.0), tried(B, 30, 0.9), promoted(C, 40, A)))
    assert [service.at(ms).share for ms in (9, 10, 20, 30, 40)] == [0, 0.5, 0, 0.9, 0]
    assert [service.at(ms).challenger for ms in (9, 10, 20, 30, 40)] == [None, B, B, B, None]


def test_promoting_who_serves_ends_the_trial_and_forgets_nothing() -> None:
    stands = Standing(B, C, 0.5, previous=A).after(promoted(B, 10))
    assert stands == Standing(B, previous=A)


def test_a_share_of_the_requests_goes_to_the_challenger_and_the_same_ones_each_time() -> None:
    requests = [f"request-{number}" for number in range(2000)]
    of = {share: {one for one in requests if Standing(A, B, share).of(one) == B} for share in (0.0, 0.1, 0.5)}
    assert not of[0.0]
    assert 150 < len(of[0.1]) < 250
    assert of[0.1] < of[0.5], "who was on trial stays on it while the share grows"


def test_an_alias_is_of_the_domain_that_is_asked() -> None:
    assert (alias_of("rain@previous", "rain"), alias_of("@challenger", "rain")) == ("previous", "challenger")
    assert alias_of("model:sha256:0", "rain") is None
    with pytest.raises(UnknownModel, match=r"is of 'snow', and the request of 'rain'; write rain@champion"):
        alias_of("snow@champion", "rain")
    with pytest.raises(UnknownModel, match="no alias 'best'; there are @champion, @challenger, @previous"):
        Standing(A).called("best")


def test_what_was_kept_is_read_with_parts_of_later_versions_and_what_cannot_be_is_refused() -> None:
    kept = b'[{"place": "champion", "ensemble": "%s", "by": "job", "since_ms": 10, "mood": "new"}]' % A.encode()
    assert Service.read(kept, None).at(10) == Standing(A)
    for changes, first in ((b"{}", None), (None, b"{no record")):
        with pytest.raises(UnknownModel, match="cannot be read; train it again"):
            Service.read(changes, first)


def test_domains_are_told_from_the_fields_of_the_hash() -> None:
    assert domains(["service:rain", "rain", "old", A, f"candidate:{A}"]) == ["old", "rain"]
