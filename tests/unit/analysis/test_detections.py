import pytest

from ociaudit.analysis.activity import is_overly_permissive
from ociaudit.analysis.detections import Detection, describe_timeline, find_detections
from ociaudit.analysis.stats import EventStats
from support.sample_events import collect_stats, encode_change, encode_event, encode_sign_in

HOME, NEW = "198.51.100.1", "192.0.2.9"
KEY = {"response": {"status": "200", "payload": {"fingerprint": "aa:bb"}}, "resourceId": "ocid1.user.oc1..anna"}
EVERYTHING = "Allow any-user to manage all-resources in tenancy"


def make_history(who: str = "anna", where: str = HOME, *, days: int = 10) -> list[bytes]:
    """Return the events of ordinary days of a principal."""
    return [encode_event("ListInstances", who, where, hours=hour) for hour in range(0, days * 24, 6)]


def find(stats: EventStats) -> list[Detection]:
    """Return the detections in these statistics."""
    return find_detections(stats, *stats.list_actors())


def sort_by_time(events: list[bytes]) -> list[bytes]:
    """Return events in the order of their times."""
    return sorted(events, key=lambda event: event.split(b'"eventTime":"')[1][:24])


def detect(*events: bytes, history: list[bytes] | None = None) -> list[Detection]:
    """Return the detections in ten ordinary days and the given events."""
    known = make_history() if history is None else history
    return find(collect_stats(sort_by_time([*known, *events])))


def join_reasons(found: list[Detection]) -> str:
    """Return all reasons as one text."""
    return "; ".join(reason.text for one in found for reason in one.reasons)


def guess_password(number: int, *, hours: float = 120, gap: float = 0.01, where: str = NEW) -> list[bytes]:
    """Return failed sign-ins, `gap` hours apart, and a successful one."""
    failed = [encode_sign_in("failure", where=where, hours=hours + gap * one) for one in range(number)]
    return [*failed, encode_sign_in("success", where=where, hours=hours + gap * number)]


def test_ordinary_days_have_no_detection() -> None:
    """Nothing is detected in ordinary days, nor for a new key from the usual address."""
    assert detect() == []
    assert detect(encode_change("UploadApiKey", hours=100, **KEY), encode_sign_in("success", hours=99)) == []


def test_a_guessed_password() -> None:
    """Five failures and a success are detected; four are a typing mistake, and hours apart they are not one run."""
    (found,) = detect(*guess_password(5))
    assert (found.principal, found.address) == ("anna", NEW)
    assert "5 failed sign-ins, then a successful one" in join_reasons([found])
    assert detect(*guess_password(4)) == []
    assert detect(*guess_password(9, gap=2)) == []


def test_a_guessed_password_from_the_usual_address() -> None:
    """A guessed password is detected from a known address too."""
    assert detect(*guess_password(6, where=HOME))[0].address == HOME


@pytest.mark.parametrize(
    ("statement", "is_permissive"),
    [
        (EVERYTHING, True),
        ("allow  ANY-USER to manage object-family in compartment x", True),
        ("Allow group admins to manage all-resources in tenancy", True),
        ("Allow group readers to read audit-events in tenancy", False),
        ("Allow group a to manage all-resources in compartment b", False),
    ],
)
def test_an_overly_permissive_policy(statement, is_permissive) -> None:
    """An overly permissive statement is detected after any number of others."""
    assert is_overly_permissive(statement) == is_permissive
    others = ["Allow group readers to read buckets in tenancy"] * 20
    payload = {"status": "200", "payload": {"statements": [*others, statement]}}
    found = detect(encode_change("CreatePolicy", hours=100, response=payload))
    assert bool(found) == is_permissive
    if is_permissive:
        assert "an overly permissive policy" in join_reasons(found)


def test_deleted_monitoring() -> None:
    """Deleting a log group is detected from any address; a failed attempt is not."""
    assert "monitoring deleted or disabled" in join_reasons(
        detect(encode_event("DeleteLogGroup", hours=100, service="logging"))
    )
    assert detect(encode_event("DeleteLogGroup", hours=100, service="logging", status="404")) == []


def test_a_new_key_used_from_a_new_address() -> None:
    """After a new credential for a principal, five events of it from a previously unseen address are detected."""
    key = encode_change("UploadApiKey", "admin", "10.0.0.1", hours=120, **KEY)
    uses = [encode_event("ListBuckets", where=NEW, hours=125 + one / 10) for one in range(5)]
    history = make_history() + make_history("admin", "10.0.0.1")
    (found,) = detect(key, *uses, history=history)
    assert (found.principal, found.address) == ("anna", NEW)
    assert "a previously unseen address soon after a new credential" in join_reasons([found])
    assert detect(key, *uses[:4], history=history) == []
    assert detect(key, *uses, history=history + make_history("bob", NEW)) == []
    assert detect(*uses, history=history) == []


def test_another_address_of_a_roaming_principal() -> None:
    """For a principal with many addresses, another one is not suspicious."""
    roaming = [encode_event("ListBuckets", where=f"10.1.0.{one}", hours=one) for one in range(5)]
    key = encode_change("UploadApiKey", hours=120, **KEY)
    uses = [encode_event("ListBuckets", where=NEW, hours=125 + one / 10) for one in range(5)]
    assert detect(key, *uses)
    assert detect(key, *uses, *roaming) == []


def test_changes_from_new_addresses_are_one_detection() -> None:
    """Changes from new addresses are grouped by principal; nothing is new in the first part of the range."""
    events = [encode_change("AddUserToGroup", where=f"10.2.0.{one}", hours=100 + one) for one in range(7)]
    (found,) = detect(*events)
    assert join_reasons([found]) == "7 changes to IAM from 7 new addresses for this principal"
    assert detect(encode_change("AddUserToGroup", where=NEW, hours=3)) == []


def test_an_address_that_tries_many_principals() -> None:
    """Failed sign-ins of five principals from one address are detected, of four are not."""
    events = [encode_sign_in("failure", f"user{one}", NEW, hours=100 + one / 100) for one in range(5)]
    assert "5 failed sign-ins of 5 principals" in join_reasons(detect(*events))
    assert detect(*events[:4]) == []


def test_many_failures_without_success() -> None:
    """Ten failed sign-ins without a success are detected, nine are not."""
    events = [encode_sign_in("failure", where=NEW, hours=100 + one / 100) for one in range(10)]
    assert "10 failed sign-ins, none succeeded" in join_reasons(detect(*events))
    assert detect(*events[:9]) == []


def test_a_principal_whose_calls_fail() -> None:
    """A principal with ten failed calls of ten is detected, with nine of nine it is not."""
    failed = [encode_event("ListUsers", "scanner", NEW, hours=100 + one, status="404") for one in range(10)]
    assert "10 of 10 calls failed" in join_reasons(detect(*failed))
    assert detect(*failed[:9]) == []


def test_the_timeline_is_in_order() -> None:
    """Guess, key, policy, calls and reversal are in the order of time, each with its details."""
    theft = [
        *guess_password(9, hours=120),
        encode_change("UploadApiKey", where=NEW, hours=121, **KEY),
        encode_change(
            "CreatePolicy", where=NEW, hours=121.5, response={"status": "200", "payload": {"statements": [EVERYTHING]}}
        ),
        *[encode_event("GetSecretBundle", where=NEW, hours=122 + one / 100) for one in range(20)],
        encode_change("DeleteApiKey", "admin", "10.0.0.1", hours=123, resourceId=KEY["resourceId"]),
        encode_change("UploadApiKey", "admin", "10.0.0.1", hours=124, resourceId=KEY["resourceId"]),
    ]
    stats = collect_stats(sort_by_time([*make_history(), *theft]))
    found = find(stats)[0]
    items = describe_timeline(stats, found)
    assert [item.text.split()[0] for item in items] == ["9", "UploadApiKey", "CreatePolicy:", "20", "DeleteApiKey"]
    assert [item.instant for item in items] == sorted(item.instant for item in items)
    text = "\n".join(item.text for item in items)
    assert "aa:bb" in text
    assert EVERYTHING in text
    assert "GetSecretBundle 20" in text
    assert "by admin from 10.0.0.1" in text
    assert found.weight >= 13


def test_the_same_events_give_the_same_list() -> None:
    """Detections are ordered by weight, then by time."""
    events = [
        *guess_password(6),
        *guess_password(7, where="192.0.2.7", hours=130),
        encode_event("DeleteLogGroup", hours=100, service="logging"),
    ]
    first, again = detect(*events), detect(*events)
    assert [(one.principal, one.address) for one in first] == [(one.principal, one.address) for one in again]
    assert [one.weight for one in first] == sorted((one.weight for one in first), reverse=True)


def test_an_empty_file_and_events_without_a_time() -> None:
    """No events, and events without any field, give no detection."""
    assert find(collect_stats([])) == []
    assert find(collect_stats([b"{}", b'{"data":{"identity":{"principalName":"x"}}}'])) == []


def test_an_event_with_several_addresses_is_one_event() -> None:
    """A detection of several pairs counts an event once that names several of their addresses, or one of them twice."""
    places = f"{NEW}, 192.0.2.10, {NEW}"
    changes = [encode_change("UpdatePolicy", where=places, hours=200 + number) for number in range(4)]
    calls = [encode_event("GetObject", "robot", places, hours=150 + number, status="404") for number in range(20)]
    found = {one.principal: one for one in detect(*changes, *calls)}
    assert (found["anna"].events, found["robot"].events) == (4, 20)
    assert found["anna"].pairs == {("anna", NEW), ("anna", "192.0.2.10")}
