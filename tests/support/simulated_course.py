"""The course of an archive: a simulated tenancy with a history, and syncs of it that are disturbed in every way."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from ociaudit.archive.reader import open_archive
from ociaudit.archive.state import parse_rings
from ociaudit.errors import OciAuditError, RequestError
from ociaudit.operations.sync import SyncOptions
from ociaudit.planning.shard import Target, Window, parse_minute
from support.simulated_archive import (
    check_counts,
    check_files,
    check_rows,
    find_holes,
    find_uncovered,
    kill_sync,
    sync,
)
from support.simulated_tenancy import (
    BEGIN,
    DAY,
    HOME,
    OTHER,
    ROOT,
    SimulatedCompartment,
    SimulatedRecord,
    SimulatedTenancy,
    make_error,
    make_record,
    make_silence,
)

COMPARTMENTS = [f"ocid1.compartment.oc1..{letter}" for letter in "abc"]
_CALLS = 100
"""Syncs are killed at one of their first calls to the disk; a quiet one has about eighty."""
_ANSWER_MARGIN = 10
"""Minutes inside retention that an answer must have to count."""
_LATE = ((0.8, 0), (0.9, 110), (0.96, 1_500), (0.995, 9_000), (1.0, 30_000))
"""How late, in minutes at most, which share of the records is shown."""


class Course:
    """One archive of one tenancy, from a seed."""

    DISTURBANCES: ClassVar[Sequence[str]] = (
        *("none", "none", "kill", "kill", "torn", "interrupt", "errors", "throttle", "deny", "region down"),
        *("all right", "all right", "pause", "clock ahead", "wrong clock", "slow", "scope error", "sign-in"),
    )

    def __init__(
        self, seed: int, folder: Path, *, days: int, rescan: str = "2h,26h,7d", max_window_days: int = 14
    ) -> None:
        """Make the tenancy, with a history of ten days and a future of so many."""
        self.dice = random.Random(seed)
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.options = SyncOptions(archive=folder / "archive", rescan=rescan, max_window_days=max_window_days)
        self.tenancy = make_tenancy(self.dice, days)
        self.tenancy.refuse = self.refuse
        self.denied: set[Target] = set()
        self.silent: set[str] = set()
        self.error_share = 0.0
        self.troubled: set[Target] = set()
        """Targets that could not be asked at some time, so that retention may have passed before they could."""
        self.killed = 0
        self.failed: list[str] = []

    def refuse(self, target: Target, minute: int) -> RequestError | None:
        """Return why a target does not answer, if it does not."""
        error = self._choose_error(target, minute)
        if error is not None or self.tenancy.seconds_per_request:
            self.troubled.add(target)
        return error

    def _choose_error(self, target: Target, minute: int) -> RequestError | None:
        state = self.tenancy.compartments.get(target.compartment)
        listed = state.list_at(minute) if state else ("root", "ACTIVE")
        if target in self.denied or listed is None or listed[1] == "DELETED":
            return make_error(404, "NotAuthorizedOrNotFound")
        if target.region in self.silent:
            return make_silence()
        if self.dice.random() < self.error_share:
            return self.dice.choice([make_error(503, "ServiceUnavailable"), make_error(429, "TooManyRequests")])
        return None

    def step(self, disturbance: str, minutes: int | None = None) -> None:
        """Let time pass, and sync under a disturbance."""
        self.tenancy.pass_minutes(self.dice.choice([1, 17, 60, 61, 300]) if minutes is None else minutes)
        tenancy, dice = self.tenancy, self.dice
        tenancy.before_request = lambda _: None
        self.error_share = tenancy.seconds_per_request = 0.0
        if disturbance in {"kill", "torn"}:
            self.kill(is_torn=disturbance == "torn")
        elif disturbance == "interrupt":
            self._interrupt(dice.randint(1, 40))
        elif disturbance == "wrong clock":
            self._sync_with_wrong_clock()
        else:
            self._disturb(disturbance)
            self.sync()

    def kill(self, *, is_torn: bool = False) -> None:
        """Sync up to three times, each time up to some call to the disk."""
        for _ in range(self.dice.randint(1, 3)):
            self.killed += kill_sync(self.tenancy, self.options, self.dice.randint(1, _CALLS), is_torn=is_torn)

    def _disturb(self, disturbance: str) -> None:
        tenancy, dice = self.tenancy, self.dice
        match disturbance:
            case "errors" | "throttle":
                self.error_share = 0.3 if disturbance == "errors" else 0.1
            case "deny":
                self.denied.add(dice.choice(tenancy.list_targets()))
            case "all right":
                self.denied.clear()
                self.silent.clear()
                tenancy.ahead = 0.0
            case "region down":
                self.silent.add(OTHER)
            case "pause":
                tenancy.pass_minutes(dice.randint(0, 2 * DAY))
            case "clock ahead":  # the service's `Date` says so
                tenancy.ahead = dice.choice([200.0, 7_200.0, 100_000.0])
            case "slow":
                tenancy.seconds_per_request = dice.choice([5.0, 120.0])
            case "scope error":
                self._fail_at(1, make_error(500, "InternalServerError"))
            case "sign-in":
                self._fail_at(dice.randint(1, 12), make_error(401, "NotAuthenticated"))

    def _sync_with_wrong_clock(self) -> None:
        """Sync while both clocks are a day ahead; set them right before that day is over."""
        self.tenancy.ahead, self.tenancy.has_dates = 100_000.0, False
        self.sync()
        self.tenancy.ahead, self.tenancy.has_dates = 0.0, True
        self.tenancy.pass_minutes(1)
        self.sync()

    def _fail_at(self, first: int, error: RequestError) -> None:
        begin = self.tenancy.requests

        def fail(number: int) -> None:
            if number >= begin + first:
                raise error

        self.tenancy.before_request = fail

    def _interrupt(self, after: int) -> None:
        """Sync, and stop at a request as Ctrl-C does."""
        begin = self.tenancy.requests

        def stop(number: int) -> None:
            if number == begin + after:
                raise KeyboardInterrupt

        self.tenancy.before_request = stop
        try:
            self.sync()
        except KeyboardInterrupt:
            self.killed += 1

    def sync(self) -> bool:
        """Sync; return whether it came to its end."""
        try:
            sync(self.tenancy, self.options)
        except OciAuditError as error:
            self.failed.append(f"{type(error).__name__}: {error}")
            return False
        return True

    def run(self, *, hours: int, kills: int, every_hours: int = 1) -> None:
        """Sync about every so many hours, with so many kills, and other disturbances now and then."""
        dice = self.dice
        killed_at = set(dice.sample(range(hours // every_hours), kills))
        others = [one for one in self.DISTURBANCES if one not in {"kill", "torn", "pause"}]
        for number in range(hours // every_hours):
            if number in killed_at:
                before = self.killed
                while self.killed == before:
                    self.step("kill", minutes=1)
            disturbance = dice.choice(others) if dice.random() < 0.1 else "none"
            self.step(disturbance, minutes=every_hours * dice.randint(50, 60))

    def finish(self) -> None:
        """Let everything be as it should, and sync until all that is over is final."""
        self.denied.clear()
        self.silent.clear()
        self.tenancy.ahead = 0.0
        reach = parse_rings(self.options.rescan)[-1]
        self.step("none")
        for _ in range(2 * reach // DAY + 2):
            self.step("none", minutes=DAY)
        assert not self.failed or self.sync()

    def check_now(self) -> None:
        """Check what the archive claims, whatever is under way."""
        self.sync()
        check_rows(self.tenancy, self.options.archive, self.folder / "scratch")

    def check(self) -> None:
        """Check the archive, of which nothing is missing."""
        path = self.options.archive
        check_files(path)
        check_counts(path)
        check_rows(self.tenancy, path, self.folder / "scratch")
        state = open_archive(path).state
        for target in self.tenancy.list_targets():
            if target.compartment != COMPARTMENTS[1]:  # that one is deleted in between
                assert find_holes(state, target) == ()
                lost = [part for one in state.targets[target].lost for part in find_uncovered(state, target, one)]
                assert target in self.troubled or all(was_out_of_reach(path, part) for part in lost)
        assert {gap.target.compartment for gap in state.gaps} <= {COMPARTMENTS[1]}


def was_out_of_reach(archive: Path, window: Window) -> bool:
    """Return whether a window left retention between the plan of a round and its resumption by a later process."""
    for commit in open_archive(archive).log.read_commits():
        if commit.kind == "sync" and commit.retention_days is not None:
            resumed = parse_minute(commit.at)
            kept_at = (commit.now - commit.retention_days * DAY, resumed - commit.retention_days * DAY)
            if kept_at[0] < window.start and window.end <= kept_at[1] + _ANSWER_MARGIN:
                return True
    return False


def make_tenancy(
    dice: random.Random, days: int, *, late: Sequence[tuple[float, int]] = _LATE, forms: Sequence[int] = (1, 1, 1, 2, 3)
) -> SimulatedTenancy:
    """Return a tenancy with up to eight targets that come, change and go in the course of so many days.

    `late` and `forms` are how late its records are shown, and in how many serialisations each.
    """
    end = BEGIN + days * DAY
    tenancy = SimulatedTenancy(retention_days=40, regions={HOME: 0, OTHER: 0})
    a, b, c = COMPARTMENTS
    deleted = dice.randint(BEGIN, end)
    tenancy.compartments = {
        a: SimulatedCompartment("a", renamed=(dice.randint(BEGIN, end), "a2")),
        b: SimulatedCompartment(
            "b", states=((0, "ACTIVE"), (deleted, "DELETED"), (deleted + dice.randint(10, days * DAY), ""))
        ),
        c: SimulatedCompartment("c", created=dice.randint(BEGIN, end)),
    }
    for target in [Target(region, ocid) for region in (HOME, OTHER) for ocid in (ROOT, *COMPARTMENTS)]:
        since = tenancy.compartments[target.compartment].created if target.compartment in tenancy.compartments else 0
        until = deleted if target.compartment == b else end
        tenancy.add(target, draw_records(dice, f"{target.region}/{target.compartment[-1]}", since, until, late, forms))
    share_records(dice, tenancy)
    return tenancy


def draw_records(
    dice: random.Random,
    name: str,
    since: int,
    until: int,
    late: Sequence[tuple[float, int]],
    forms: Sequence[int],
) -> list[SimulatedRecord]:
    """Return about a record every four hours, some late, some in several forms, some in conflict with another."""
    records = []
    minute = max(since, BEGIN - 10 * DAY)
    number = 0
    while (minute := minute + dice.randint(1, 480)) < until:
        number += 1
        lot = dice.random()
        latest = next(most for share, most in late if lot <= share)
        happened = minute - dice.choice([0, 0, 0, 2, 90, 3_000])
        make = partial(
            make_record,
            f"{name}-{number}",
            late=dice.randint(0, latest),
            happened=happened,
            forms=dice.choice(forms),
        )
        records.append(make(minute))
        if dice.random() < 0.1:  # another record with the same time and id
            records.append(make(minute + 1, value="other"))
        if dice.random() < 0.1:  # the same record once more, processed later
            records.append(make(minute + dice.randint(0, 200)))
    return records


def share_records(dice: random.Random, tenancy: SimulatedTenancy) -> None:
    """Let some records be served by another target as well."""
    for target, own in list(tenancy.records.items()):
        other = dice.choice([one for one in tenancy.records if one != target])
        tenancy.add(other, [record for record in own if dice.random() < 0.05])
