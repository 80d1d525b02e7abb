"""The synthetic tenancy: regions, compartments and principals, generated from the seed.

Invariants:
- `us-ashburn-1` is the home region, whatever the seed;
- exactly one compartment is forbidden, and exactly one is DELETED;
- every OCID depends only on the seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ociaudit_emulator.randomness import make_hex, make_ocid

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
    """A compartment; `share` is its share of the events, and `parent_id` is empty for root."""

    id: str
    name: str
    parent_id: str
    state: str
    share: float
    is_forbidden: bool = False


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
    """The synthetic tenancy, with the look-ups that the services need."""

    id: str
    name: str
    regions: tuple[Region, ...]
    compartments: tuple[Compartment, ...]
    principals: tuple[Principal, ...]
    region_by_name: Mapping[str, Region]
    compartment_by_id: Mapping[str, Compartment]

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
