"""The synthetic tenancy: regions, compartments and principals, generated from the seed, and how it changes.

A Timeline holds scheduled changes, and knows the tenancy's state at any instant.

Invariants:
- `us-ashburn-1` is the home region, whatever the seed;
- at the start, exactly one compartment is forbidden, and exactly one is DELETED;
- every OCID depends only on the seed and, for a compartment that is created later, on that change;
- the state at an instant depends only on the changes up to it, so a clock may also go back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf

from ociaudit_emulator.randomness import make_hex, make_ocid
from ociaudit_emulator.time_formats import MS_PER_DAY, MS_PER_MINUTE, format_time_ms, parse_time_ms

HOME_REGION = "us-ashburn-1"


class PrincipalKind(StrEnum):
    """The kind of a principal; the value is the `authType` of its events."""

    USER = "natv"
    CONSOLE = "natf"
    FEDERATED = "fed"
    INSTANCE = "resource"


@dataclass(frozen=True, slots=True)
class Region:
    """A region that the tenancy is subscribed to; `share` is its share of the events."""

    name: str
    key: str
    status: str
    share: float
    office_starts_hour: int
    is_home: bool = False

    @property
    def is_ready(self) -> bool:
        """Return whether the subscription is complete."""
        return self.status == "READY"


@dataclass(frozen=True, slots=True)
class Compartment:
    """A compartment; `share` is its share of the events, and `parent_id` is empty for root.

    The events of a closed compartment cannot be read, although it is still listed.
    """

    id: str
    name: str
    parent_id: str
    state: str
    share: float
    is_forbidden: bool = False
    is_closed: bool = False

    @property
    def is_readable(self) -> bool:
        """Return whether ListEvents answers for it."""
        return not (self.is_forbidden or self.is_closed)


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: a user, an instance or a federated session; `share` is its share of the calls."""

    id: str
    name: str
    kind: PrincipalKind
    user_agent: str
    addresses: tuple[str, ...]
    fingerprint: str
    share: float


@dataclass(frozen=True, slots=True)
class Tenancy:
    """The synthetic tenancy, with the look-ups that the services need.

    At the start, the look-ups also hold what is created later; those of a Timeline's state hold what exists then.
    """

    id: str
    name: str
    regions: tuple[Region, ...]
    compartments: tuple[Compartment, ...]
    principals: tuple[Principal, ...]
    region_by_name: dict[str, Region]
    compartment_by_id: dict[str, Compartment]
    renamed: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def find_name(self, compartment_id: str, minute: int) -> str:
        """Return the name of a compartment in a minute since 1970; events carry it. Root has the tenancy's."""
        if compartment_id == self.id:
            return self.name
        renamed = self.renamed.get(compartment_id) if self.renamed else None
        if renamed:
            at = bisect_right(renamed, minute * MS_PER_MINUTE, key=lambda one: one[0])
            if at:
                return renamed[at - 1][1]
        return self.compartment_by_id[compartment_id].name

    @property
    def root(self) -> Compartment:
        """Return the root compartment, whose id is the tenancy's."""
        return self.compartments[0]

    @property
    def config_user(self) -> Principal:
        """Return the user of the written configurations."""
        return self.principals[0]

    def find_principal(self, name: str) -> Principal:
        """Return the principal of a name."""
        return next(one for one in self.principals if one.name == name)


_REGIONS = (
    Region(HOME_REGION, "IAD", "READY", 0.70, 13, is_home=True),
    Region("eu-frankfurt-1", "FRA", "READY", 0.25, 7),
    Region("ap-tokyo-1", "NRT", "READY", 0.05, 0),
    Region("sa-saopaulo-1", "GRU", "IN_PROGRESS", 0.0, 12),
)

# Name, parent, state, share of the events; the shares, root's included, add up to 1.
_COMPARTMENTS = (
    ("network", "", "ACTIVE", 0.08),
    ("network-prod", "network", "ACTIVE", 0.06),
    ("network-dev", "network", "ACTIVE", 0.02),
    ("production", "", "ACTIVE", 0.07),
    ("payments", "production", "ACTIVE", 0.22),
    ("web-shop", "production", "ACTIVE", 0.14),
    ("web-shop-cache", "web-shop", "ACTIVE", 0.03),
    ("development", "", "ACTIVE", 0.09),
    ("sandbox-anna", "development", "ACTIVE", 0.004),
    ("data-lake", "", "ACTIVE", 0.10),
    ("security", "", "ACTIVE", 0.03),
    ("investigations", "security", "ACTIVE", 0.03),
    ("legacy-erp", "", "INACTIVE", 0.002),
    ("retired-2019", "", "DELETED", 0.004),
)
_FORBIDDEN = "investigations"
_ROOT_SHARE = 0.12

_FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"
_CHROME = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/126.0.0.0 Safari/537.36"
)
_JAVA_SDK = "Oracle-JavaSDK/3.44.0 (Linux/5.15.0-206.153.7.el8uek.x86_64; Java/17.0.11; Java HotSpot(TM))"
_PYTHON_SDK = "Oracle-PythonSDK/2.126.3 (python 3.11.9; x86_64-Linux)"
_CLI = "Oracle-PythonSDK/2.126.3 (python 3.11.9; x86_64-Linux) Oracle-PythonCLI/3.41.0"
_TERRAFORM = "Oracle-GoSDK/65.67.0 (linux/amd64; go/go1.22) Oracle-TerraformProvider/6.1.0 terraform-cli/1.8.4"

# Name, kind, user agent, addresses, share of the calls.
PrincipalRow = tuple[str, PrincipalKind, str, tuple[str, ...], float]
_PRINCIPALS: tuple[PrincipalRow, ...] = (
    ("audit.reader@example.com", PrincipalKind.USER, _CLI, ("203.0.113.10",), 0.03),
    ("anna.berg@example.com", PrincipalKind.CONSOLE, _FIREFOX, ("203.0.113.21", "203.0.113.22"), 0.12),
    ("jörg.müller@example.com", PrincipalKind.CONSOLE, _CHROME, ("203.0.113.31",), 0.08),
    ("mei.tanaka@example.com", PrincipalKind.CONSOLE, _CHROME, ("198.51.100.41",), 0.06),
    ("tom.okafor@example.com", PrincipalKind.USER, _CLI, ("203.0.113.51",), 0.06),
    ("ci-deployer", PrincipalKind.USER, _TERRAFORM, ("198.51.100.60", "198.51.100.61"), 0.20),
    ("backup-robot", PrincipalKind.USER, _PYTHON_SDK, ("10.0.12.7",), 0.10),
    ("payments-api-1", PrincipalKind.INSTANCE, _JAVA_SDK, ("10.0.64.84",), 0.15),
    ("payments-api-2", PrincipalKind.INSTANCE, _JAVA_SDK, ("10.0.64.85",), 0.10),
    ("etl-worker", PrincipalKind.INSTANCE, _PYTHON_SDK, ("10.0.96.12",), 0.06),
    ("exampleidp/li.wei@example.com", PrincipalKind.FEDERATED, _CHROME, ("198.51.100.77",), 0.04),
)
_OCID_KINDS = {
    PrincipalKind.USER: "user",
    PrincipalKind.CONSOLE: "user",
    PrincipalKind.FEDERATED: "saml2idp",
    PrincipalKind.INSTANCE: "instance",
}


def make_tenancy(seed: int, *, more_compartments: int = 0) -> Tenancy:
    """Return the tenancy of a seed, with this many additional compartments that have no generated events."""
    tenancy_id = make_ocid("tenancy", seed)
    compartments = (*_make_compartments(seed, tenancy_id), *_make_quiet(seed, tenancy_id, more_compartments))
    return Tenancy(
        id=tenancy_id,
        name=f"example{make_hex(6, seed, 'tenancy-name')}",
        regions=_REGIONS,
        compartments=compartments,
        principals=tuple(_make_principal(seed, row) for row in _PRINCIPALS),
        region_by_name={region.name: region for region in _REGIONS},
        compartment_by_id={compartment.id: compartment for compartment in compartments},
    )


def _make_compartments(seed: int, tenancy_id: str) -> tuple[Compartment, ...]:
    """Return root and the compartments below it, parents before their children."""
    root = Compartment(tenancy_id, "root", "", "ACTIVE", _ROOT_SHARE)
    ids = {"": tenancy_id} | {row[0]: make_ocid("compartment", seed, row[0]) for row in _COMPARTMENTS}
    return root, *(
        Compartment(ids[name], name, ids[parent], state, share, is_forbidden=name == _FORBIDDEN)
        for name, parent, state, share in _COMPARTMENTS
    )


def _make_quiet(seed: int, tenancy_id: str, count: int) -> Iterator[Compartment]:
    """Yield compartments below root that have no generated events."""
    for number in range(1, count + 1):
        name = f"quiet-{number:04}"
        yield Compartment(make_ocid("compartment", seed, name), name, tenancy_id, "ACTIVE", 0.0)


def _make_principal(seed: int, row: PrincipalRow) -> Principal:
    """Return a principal with its own OCID and key fingerprint."""
    name, kind, user_agent, addresses, share = row
    region_key = HOME_REGION if kind is PrincipalKind.INSTANCE else ""
    digits = make_hex(32, seed, "fingerprint", name)
    fingerprint = ":".join(digits[at : at + 2] for at in range(0, 32, 2))
    ocid = make_ocid(_OCID_KINDS[kind], seed, name, region_key=region_key and "iad")
    return Principal(ocid, name, kind, user_agent, addresses, fingerprint, share)


class ChangeError(Exception):
    """A change of the tenancy that is not valid; the text says what would be."""


_DEFAULT_LISTED_DAYS = 90
_DEFAULT_SHARE = 0.05
_REGION_KEYS = {"uk-london-1": "LHR", "us-phoenix-1": "PHX", "eu-zurich-1": "ZRH", "ap-sydney-1": "SYD"}
# The keys of each kind of change, beside `change` and `at`; those in the first tuple are required.
_CHANGE_KEYS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "createCompartment": (("name",), ("parent", "share", "isForbidden")),
    "renameCompartment": (("compartment", "name"), ()),
    "deleteCompartment": (("compartment",), ("listedDays", "isReadable")),
    "forbidCompartment": (("compartment",), ()),
    "allowCompartment": (("compartment",), ()),
    "subscribeRegion": (("region",), ("key", "share", "isReady")),
    "setRetention": (("days",), ()),
}
_EXPECTED_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "share": (int, float),
    "isForbidden": bool,
    "isReadable": bool,
    "isReady": bool,
    "listedDays": int,
    "days": int,
}


@dataclass(frozen=True, slots=True)
class Change:
    """A scheduled change: its instant in milliseconds since 1970, its kind, and what it does."""

    at_ms: int
    kind: str
    values: Mapping[str, object]
    compartment: Compartment | None = None
    region: Region | None = None

    def describe(self) -> dict[str, object]:
        """Return the change as a JSON object, with the OCID of its compartment."""
        resolved = {} if self.compartment is None else {"compartmentId": self.compartment.id}
        return {"change": self.kind, "at": format_time_ms(self.at_ms), **self.values, **resolved}


@dataclass(slots=True)
class _State:
    """The tenancy while the changes up to an instant are applied one after the other."""

    compartments: dict[str, Compartment]
    regions: dict[str, Region]

    def apply(self, change: Change, time_ms: int) -> None:
        """Apply a change that has happened by an instant."""
        if change.region is not None:
            self.regions[change.region.name] = change.region
        if change.compartment is None:
            return
        one = self.compartments.get(change.compartment.id, change.compartment)
        if change.kind == "renameCompartment":
            one = replace(one, name=str(change.values["name"]))
        elif change.kind in {"forbidCompartment", "allowCompartment"}:
            one = replace(one, is_forbidden=change.kind == "forbidCompartment")
        elif change.kind == "deleteCompartment":
            one = replace(one, state="DELETED", is_closed=not change.values.get("isReadable", False))
        self.compartments[one.id] = one
        if change.kind == "deleteCompartment" and time_ms >= _find_unlisting_ms(change):
            del self.compartments[one.id]


def _find_unlisting_ms(change: Change) -> int:
    """Return the instant from which a deleted compartment is no longer listed."""
    days = change.values.get("listedDays", _DEFAULT_LISTED_DAYS)
    return change.at_ms + (days if isinstance(days, int) else _DEFAULT_LISTED_DAYS) * MS_PER_DAY


class Timeline:
    """The tenancy in the course of time: its start, and scheduled changes in the order of their instants."""

    def __init__(self, start: Tenancy, seed: int, kept_days: int | None) -> None:
        """Begin without changes; `kept_days` is the retention at the start, None without one."""
        self.start = start
        self._seed = seed
        self._kept_days = kept_days
        self._first_regions, self._first_compartments = dict(start.region_by_name), dict(start.compartment_by_id)
        self._changes: list[Change] = []
        self._steps: list[int] = []
        self._states: dict[int, Tenancy] = {}

    def at(self, time_ms: int) -> Tenancy:
        """Return the tenancy at an instant."""
        step = bisect_right(self._steps, time_ms)
        if step == 0:
            return self._find_state(0, -1)
        return self._find_state(step, self._steps[step - 1])

    def find_kept_days(self, time_ms: int) -> int | None:
        """Return the retention at an instant, in days; None if events never expire."""
        days = self._kept_days
        for change in self._changes:
            if change.kind == "setRetention" and change.at_ms <= time_ms:
                days = int(str(change.values["days"]))
        return days

    def find_life(self, region: str, compartment_id: str) -> tuple[float, float]:
        """Return the first minute of a target's events, and the minute after its last ones."""
        first, end = -inf, inf
        for change in self._changes:
            minute = change.at_ms // MS_PER_MINUTE
            if change.kind == "subscribeRegion" and change.values["region"] == region:
                first = max(first, minute)
            if change.compartment is not None and change.compartment.id == compartment_id:
                first = max(first, minute) if change.kind == "createCompartment" else first
                end = min(end, minute) if change.kind == "deleteCompartment" else end
        return first, end

    def add(self, content: object, now_ms: int) -> list[dict[str, object]]:
        """Add the changes of a JSON list, all of them or none, and return them with their OCIDs.

        Raises: ChangeError.
        """
        if not isinstance(content, list):
            message = "the changes are not a JSON list; send a list of objects, even for one change"
            raise ChangeError(message)
        before = list(self._changes)
        added: list[Change] = []
        try:
            for one in content:
                change = self._read_change(one, now_ms)
                added.append(change)
                self._rebuild([*self._changes, change])
        except ChangeError:
            self._rebuild(before)
            raise
        return [change.describe() for change in added]

    def clear(self) -> None:
        """Remove all changes."""
        self._rebuild([])

    def describe(self) -> list[dict[str, object]]:
        """Return all changes as JSON objects, in the order of their instants."""
        return [change.describe() for change in self._changes]

    def _rebuild(self, changes: Sequence[Change]) -> None:
        """Replace the changes, and bring the look-ups of the start up to date."""
        self._changes = sorted(changes, key=lambda change: change.at_ms)
        self._states.clear()
        instants = {change.at_ms for change in changes}
        instants |= {_find_unlisting_ms(change) for change in changes if change.kind == "deleteCompartment"}
        self._steps = sorted(instants)
        created = [one.compartment for one in self._changes if one.kind == "createCompartment" and one.compartment]
        regions = [one.region for one in self._changes if one.region is not None]
        _refill(self.start.compartment_by_id, self._first_compartments | {one.id: one for one in created})
        _refill(self.start.region_by_name, self._first_regions | {one.name: one for one in regions})
        self.start.renamed.clear()
        for change in self._changes:
            if change.kind == "renameCompartment" and change.compartment is not None:
                renamed = self.start.renamed.setdefault(change.compartment.id, [])
                renamed.append((change.at_ms, str(change.values["name"])))

    def _find_state(self, step: int, time_ms: int) -> Tenancy:
        """Return the tenancy after a number of steps, the last of them at an instant."""
        if step not in self._states:
            state = _State(dict(self._first_compartments), dict(self._first_regions))
            for change in self._changes:
                if step and change.at_ms <= time_ms:
                    state.apply(change, time_ms)
            self._states[step] = replace(
                self.start,
                regions=tuple(state.regions.values()),
                compartments=tuple(state.compartments.values()),
                region_by_name=state.regions,
                compartment_by_id=state.compartments,
            )
        return self._states[step]

    def _read_change(self, content: object, now_ms: int) -> Change:
        """Return the change that a JSON object describes.

        Raises: ChangeError.
        """
        values = _check_change(content)
        kind = str(values.pop("change"))
        at_ms = _read_instant(values.pop("at", None), now_ms)
        if kind == "createCompartment":
            return Change(at_ms, kind, values, compartment=self._make_compartment(values, at_ms))
        if "compartment" in values:
            return Change(at_ms, kind, values, compartment=self._find_compartment(str(values["compartment"])))
        if kind == "subscribeRegion":
            return Change(at_ms, kind, values, region=_make_region(values))
        return Change(at_ms, kind, values)

    def _make_compartment(self, values: Mapping[str, object], at_ms: int) -> Compartment:
        """Return the compartment of a change that creates one."""
        name = str(values["name"])
        parent = self._find_compartment(str(values["parent"])) if "parent" in values else self.start.root
        share = float(str(values.get("share", _DEFAULT_SHARE)))
        ocid = make_ocid("compartment", self._seed, name, at_ms, share)
        return Compartment(ocid, name, parent.id, "ACTIVE", share, bool(values.get("isForbidden", False)))

    def _find_compartment(self, name: str) -> Compartment:
        """Return the compartment with an OCID, or the latest one with a name, whenever it has it.

        Raises: ChangeError.
        """
        by_id = self.start.compartment_by_id
        former = {new: ocid for ocid, names in self.start.renamed.items() for _, new in names}
        found = {one.name: one for one in by_id.values()} | {new: by_id[ocid] for new, ocid in former.items()} | by_id
        if name not in found:
            message = f"unknown compartment {name!r}; /_emulator/tenancy lists the compartments"
            raise ChangeError(message)
        return found[name]


def _refill(
    look_up: dict[str, object] | dict[str, Region] | dict[str, Compartment], content: Mapping[str, object]
) -> None:
    """Give a look-up that others keep a new content."""
    look_up.clear()
    look_up.update(content)  # type: ignore[arg-type]


def _check_change(content: object) -> dict[str, object]:
    """Return a change's keys and values, which are known and of the right type.

    Raises: ChangeError.
    """
    if not isinstance(content, dict) or content.get("change") not in _CHANGE_KEYS:
        message = f"a change is a JSON object whose 'change' is one of {', '.join(_CHANGE_KEYS)}"
        raise ChangeError(message)
    required, optional = _CHANGE_KEYS[content["change"]]
    unknown, missing = content.keys() - {"change", "at", *required, *optional}, set(required) - content.keys()
    if unknown or missing:
        wrong = f"unknown: {', '.join(sorted(unknown))}" if unknown else f"missing: {', '.join(sorted(missing))}"
        message = f"the keys of '{content['change']}' are {', '.join((*required, *optional, 'at'))}; {wrong}"
        raise ChangeError(message)
    for name, value in content.items():
        expected = _EXPECTED_TYPES.get(name, str)
        is_number = expected is not bool and expected is not str
        is_bad_number = is_number and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0)
        if is_bad_number or not isinstance(value, expected):
            message = f"{name} of '{content['change']}' is {value!r}, which is not of the expected type"
            raise ChangeError(message)
    return dict(content)


def _read_instant(value: object, now_ms: int) -> int:
    """Return the instant of a change; without one it is now."""
    try:
        return now_ms if value is None else parse_time_ms(str(value))
    except ValueError as error:
        message = f"at is {value!r}; write it as 2025-12-01T00:00:00Z"
        raise ChangeError(message) from error


def _make_region(values: Mapping[str, object]) -> Region:
    """Return the region of a subscription."""
    name = str(values["region"])
    known = next((one for one in _REGIONS if one.name == name), None)
    if known is not None and known.is_ready:
        message = f"the tenancy is subscribed to {name} from the start"
        raise ChangeError(message)
    key = known.key if known is not None else _REGION_KEYS.get(name, name.partition("-")[2][:3].upper())
    status = "READY" if values.get("isReady", True) else "IN_PROGRESS"
    return Region(name, str(values.get("key", key)), status, float(str(values.get("share", _DEFAULT_SHARE))), 8)
