import json
import random
from collections import Counter

from ociaudit.events.facts import read_facts
from ociaudit.insight.event_sample import (
    FAILURE,
    FOLLOWED,
    LONGEST_EVENT_BYTES,
    MOST_BYTES,
    MOST_EVENTS,
    NOTABLE,
    ORDINARY,
    EventSample,
)


def make(number: int, kind: str = "Get", size: int = 10) -> bytes:
    """An event of a type."""
    return json.dumps({"eventType": kind, "eventId": f"id{number}", "x": "y" * size}).encode()


def choose(events) -> list[bytes]:
    """The sample of (event, rank) pairs."""
    sample = EventSample()
    counts: Counter[str] = Counter()
    for start in range(0, len(events), 100):
        raws, ranks = zip(*events[start : start + 100], strict=True)
        facts = list(map(read_facts, raws))
        counts.update(one.event_type for one in facts)
        sample.add(raws, facts, ranks)
    return [kept.raw for kept in sample.choose(counts, lambda facts: facts.event_type == "Told")]


def test_a_file_that_fits_is_kept_whole_and_in_order() -> None:
    """Up to the limit every event is in the table, as in the file."""
    events = [(make(number), number % 4) for number in range(MOST_EVENTS)]
    assert choose(events) == [raw for raw, _ in events]


def test_the_order_of_the_file_does_not_choose() -> None:
    """The same events in another order give the same sample."""
    events = [
        (make(number, f"T{number % 700}"), random.Random(number).choice((0, 1, 2, 3, 3, 3))) for number in range(6_000)
    ]
    shuffled = random.Random(1).sample(events, len(events))
    first, second = choose(events), choose(shuffled)
    assert len(first) == MOST_EVENTS
    assert sorted(first) == sorted(second)


def test_what_people_look_for_comes_first() -> None:
    """Among many ordinary events all notable ones, many failures and each rare type are kept, and some others."""
    ordinary = [(make(number), ORDINARY) for number in range(10_000)]
    failures = [(make(number, "Fail"), FAILURE) for number in range(10_000, 13_000)]
    notable = [(make(number, "Key"), NOTABLE) for number in range(20_000, 20_500)]
    told = [(make(number, "Told"), FOLLOWED) for number in range(40_000, 40_120)]
    rare = [(make(30_000 + number, f"Rare{number}"), ORDINARY) for number in range(100)]
    kept = set(choose([*ordinary, *failures, *notable, *rare, *told]))
    assert len(kept) == MOST_EVENTS
    assert {raw for raw, _ in notable + rare + told} <= kept
    assert len(kept & {raw for raw, _ in failures}) >= 400
    assert len(kept & {raw for raw, _ in ordinary}) >= 200


def test_bytes_are_limited_and_long_events_lose_their_json() -> None:
    """Many long events do not make a huge page; one beyond the limit is listed without its JSON."""
    kept = choose([(make(number, size=20_000), ORDINARY) for number in range(1_000)])
    assert 100 <= len(kept) < 1_000
    assert sum(map(len, kept)) <= MOST_BYTES
    assert choose([(make(1, size=LONGEST_EVENT_BYTES), NOTABLE)]) == [b""]
