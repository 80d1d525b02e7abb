import pytest

from ociaudit.analysis.activity import is_wide_open
from ociaudit.analysis.detections import Detection, describe_timeline, find_detections
from ociaudit.analysis.stats import EventStats, collect_stats
from ociaudit.formats.base import Record
from support.told_events import tell, tell_change, tell_sign_in

HOME, NEW = "198.51.100.1", "192.0.2.9"
KEY = {"response": {"status": "200", "payload": {"fingerprint": "aa:bb"}}, "resourceId": "ocid1.user.oc1..anna"}
EVERYTHING = "Allow any-user to manage all-resources in tenancy"


def take(events: list[bytes]) -> EventStats:
    """Count events in the order given."""
    return collect_stats([[Record(event, None) for event in events]])


def past(who: str = "anna", where: str = HOME, *, days: int = 10) -> list[bytes]:
    """Ordinary days of somebody."""
    return [tell("ListInstances", who, where, hours=hour) for hour in range(0, days * 24, 6)]


def find(stats: EventStats) -> list[Detection]:
    """Find what is worth a look."""
    return find_detections(stats, stats.list_principals(), stats.list_addresses())


def look(*events: bytes, history: list[bytes] | None = None) -> list[Detection]:
    """Find what is worth a look in ten ordinary days and what happens in them."""
    known = past() if history is None else history
    return find(take(sorted([*known, *events], key=lambda one: one.split(b'"eventTime":"')[1][:24])))


def reasons(found: list[Detection]) -> str:
    """All reasons as one text."""
    return "; ".join(reason.text for one in found for reason in one.reasons)


def guess(number: int, *, hours: float = 120, gap: float = 0.01, where: str = NEW) -> list[bytes]:
    """Failed sign-ins one after the other, and one that succeeds."""
    failed = [tell_sign_in("failure", where=where, hours=hours + gap * one) for one in range(number)]
    return [*failed, tell_sign_in("success", where=where, hours=hours + gap * number)]


def test_ordinary_days_are_not_worth_a_look() -> None:
    """Nothing is found where nothing is odd; a new key from the usual place is not odd either."""
    assert look() == []
    assert look(tell_change("UploadApiKey", hours=100, **KEY), tell_sign_in("success", hours=99)) == []


def test_a_guessed_password() -> None:
    """Five failures and a success are found; four are somebody who mistyped, and hours apart they are not one run."""
    (found,) = look(*guess(5))
    assert (found.principal, found.address) == ("anna", NEW)
    assert "5 failed sign-ins, then one that succeeded" in reasons([found])
    assert look(*guess(4)) == []
    assert look(*guess(9, gap=2)) == []


def test_a_guessed_password_from_the_usual_place() -> None:
    """The address need not be new."""
    assert look(*guess(6, where=HOME))[0].address == HOME


@pytest.mark.parametrize(
    ("statement", "is_wide"),
    [
        (EVERYTHING, True),
        ("allow  ANY-USER to manage object-family in compartment x", True),
        ("Allow group admins to manage all-resources in tenancy", True),
        ("Allow group readers to read audit-events in tenancy", False),
        ("Allow group a to manage all-resources in compartment b", False),
    ],
)
def test_a_policy_that_gives_everything(statement, is_wide) -> None:
    """Such a statement is found behind any number of others."""
    assert is_wide_open(statement) == is_wide
    others = ["Allow group readers to read buckets in tenancy"] * 20
    payload = {"status": "200", "payload": {"statements": [*others, statement]}}
    found = look(tell_change("CreatePolicy", hours=100, response=payload))
    assert bool(found) == is_wide
    if is_wide:
        assert "a policy that gives away everything" in reasons(found)


def test_what_watches_was_switched_off() -> None:
    """Deleting a log group is found, from wherever; trying to is not."""
    assert "deleted or switched off" in reasons(look(tell("DeleteLogGroup", hours=100, service="logging")))
    assert look(tell("DeleteLogGroup", hours=100, service="logging", status="404")) == []


def test_a_new_key_used_from_a_new_address() -> None:
    """After a new credential for it somebody comes five times from where nobody came before."""
    key = tell_change("UploadApiKey", "admin", "10.0.0.1", hours=120, **KEY)
    uses = [tell("ListBuckets", where=NEW, hours=125 + one / 10) for one in range(5)]
    history = past() + past("admin", "10.0.0.1")
    (found,) = look(key, *uses, history=history)
    assert (found.principal, found.address) == ("anna", NEW)
    assert "an address nobody had used before, soon after a new credential" in reasons([found])
    assert look(key, *uses[:4], history=history) == []
    assert look(key, *uses, history=history + past("bob", NEW)) == []
    assert look(*uses, history=history) == []


def test_somebody_of_many_addresses_is_at_home_anywhere() -> None:
    """For a principal that comes from many addresses a further one is not suspicious."""
    roaming = [tell("ListBuckets", where=f"10.1.0.{one}", hours=one) for one in range(5)]
    key = tell_change("UploadApiKey", hours=120, **KEY)
    uses = [tell("ListBuckets", where=NEW, hours=125 + one / 10) for one in range(5)]
    assert look(key, *uses)
    assert look(key, *uses, *roaming) == []


def test_changes_from_new_addresses_are_one_line() -> None:
    """Small things from new addresses are gathered by principal; in the first part of the range nothing is new."""
    events = [tell_change("AddUserToGroup", where=f"10.2.0.{one}", hours=100 + one) for one in range(7)]
    (found,) = look(*events)
    assert reasons([found]) == "7 changes to IAM from 7 addresses new for this principal"
    assert look(tell_change("AddUserToGroup", where=NEW, hours=3)) == []


def test_an_address_that_tries_many_principals() -> None:
    """Five principals whose sign-ins failed from one address are found, four are not."""
    events = [tell_sign_in("failure", f"user{one}", NEW, hours=100 + one / 100) for one in range(5)]
    assert "5 failed sign-ins of 5 principals" in reasons(look(*events))
    assert look(*events[:4]) == []


def test_many_failures_without_success() -> None:
    """Ten failed sign-ins and no success are found."""
    events = [tell_sign_in("failure", where=NEW, hours=100 + one / 100) for one in range(10)]
    assert "10 failed sign-ins, none succeeded" in reasons(look(*events))
    assert look(*events[:9]) == []


def test_somebody_who_is_refused_everything() -> None:
    """A principal most of whose calls fail is found; few calls say nothing."""
    refused = [tell("ListUsers", "scanner", NEW, hours=100 + one, status="404") for one in range(10)]
    assert "10 of 10 calls failed" in reasons(look(*refused))
    assert look(*refused[:9]) == []


def test_the_story_is_told_in_order() -> None:
    """Guess, key, policy, use and rescue stand in the order of time, each with what matters."""
    theft = [
        *guess(9, hours=120),
        tell_change("UploadApiKey", where=NEW, hours=121, **KEY),
        tell_change(
            "CreatePolicy", where=NEW, hours=121.5, response={"status": "200", "payload": {"statements": [EVERYTHING]}}
        ),
        *[tell("GetSecretBundle", where=NEW, hours=122 + one / 100) for one in range(20)],
        tell_change("DeleteApiKey", "admin", "10.0.0.1", hours=123, resourceId=KEY["resourceId"]),
        tell_change("UploadApiKey", "admin", "10.0.0.1", hours=124, resourceId=KEY["resourceId"]),
    ]
    stats = take(sorted([*past(), *theft], key=lambda one: one.split(b'"eventTime":"')[1][:24]))
    found = find(stats)[0]
    lines = describe_timeline(stats, found)
    assert [line.text.split()[0] for line in lines] == ["9", "UploadApiKey", "CreatePolicy:", "20", "DeleteApiKey"]
    assert [line.instant for line in lines] == sorted(line.instant for line in lines)
    text = "\n".join(line.text for line in lines)
    assert "aa:bb" in text
    assert EVERYTHING in text
    assert "GetSecretBundle 20" in text
    assert "by admin from 10.0.0.1" in text
    assert found.weight >= 13


def test_the_same_events_give_the_same_list() -> None:
    """Findings come in the order of their weight, then of time."""
    events = [*guess(6), *guess(7, where="192.0.2.7", hours=130), tell("DeleteLogGroup", hours=100, service="logging")]
    first, again = look(*events), look(*events)
    assert [(one.principal, one.address) for one in first] == [(one.principal, one.address) for one in again]
    assert [one.weight for one in first] == sorted((one.weight for one in first), reverse=True)


def test_an_empty_file_and_events_without_a_time() -> None:
    """Nothing, and events that say nothing, are no reason for trouble."""
    assert find(take([])) == []
    assert find(take([b"{}", b'{"data":{"identity":{"principalName":"x"}}}'])) == []
