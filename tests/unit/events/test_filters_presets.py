import json

import oci
import pytest

from ociaudit.errors import UsageError
from ociaudit.events.conditions import NameMatcher, NameRule
from ociaudit.events.fields import read_facts
from ociaudit.events.filters import PRESET_NAMES, PRESETS, EventFilter, FilterSpec, find_preset

EXPECTED_NAMES = (
    "iam sign-ins sign-in-failures mfa api-keys auth-tokens passwords sessions user-locking policy-changes "
    "network-changes deletions cis"
)
READS = ("Get", "List", "Head", "Search", "Summarize")
# Operations that Audit records and that no client of the SDK has.
NOT_OF_THE_SDK = {
    *("CreateOrResetPassword", "ActivateUser", "DeactivateUser", "UpdateMfaTotpDevice"),
}


def is_met(preset: str, event_type: str = "", domain_name: str | None = None, status: str | None = None) -> bool:
    """Return whether a preset lets an event pass."""
    event = {
        "eventType": f"com.oraclecloud.{event_type}",
        "data": {"additionalDetails": {"eventId": domain_name}, "response": {"status": status}},
    }
    return EventFilter(FilterSpec(presets=preset)).is_wanted(json.dumps(event).encode())


def list_operations(client: type) -> set[str]:
    """Return the operations of a client of the SDK as Audit names them, in lower case."""
    return {name.replace("_", "") for name in dir(client) if not name.startswith("_")}


def test_the_presets_are_those_of_the_documentation() -> None:
    """Every documented preset exists and has a title and rules."""
    assert list(PRESET_NAMES) == EXPECTED_NAMES.split()
    for preset in PRESETS:
        assert preset.title
        assert preset.rules
        assert all(name_rule.patterns for name_rule in preset.rules)


@pytest.mark.parametrize(
    ("preset", "event_type", "domain_name", "status", "expected"),
    [
        ("iam", "identityControlPlane.AddUserToGroup", None, None, True),
        ("iam", "identityControlPlane.ListUsers", None, None, False),
        ("iam", "Compartments.CreateCompartment", None, None, True),
        ("iam", "Compartments.ListCompartments", None, None, False),
        ("iam", "x.Y", "admin.group.add.member.success", None, True),
        ("iam", "virtualNetwork.CreateVcn", None, None, False),
        ("sign-ins", "IdentitySignOn.InteractiveLogin", None, None, True),
        ("sign-ins", "x.Y", "sso.authentication.failure", None, True),
        ("sign-ins", "identityControlPlane.GetUser", None, "200", False),
        ("sign-in-failures", "IdentitySignOn.InteractiveLogin", "sso.session.create.success", None, False),
        ("sign-in-failures", "IdentitySignOn.InteractiveLogin", "sso.authentication.failure", None, True),
        ("sign-in-failures", "IdentitySignOn.InteractiveLogin", None, "400", True),
        ("sign-in-failures", "identityControlPlane.GetUser", None, "404", False),
        ("mfa", "identityControlPlane.GenerateTotpSeed", None, None, True),
        ("mfa", "x.Y", "sso.auth.factor.initiated", None, True),
        ("api-keys", "identitycontrolplane.uploadapikey", None, None, True),
        ("api-keys", "identityControlPlane.ListApiKeys", None, None, False),
        ("auth-tokens", "identityControlPlane.CreateAuthToken", None, None, True),
        ("passwords", "IdentityProvisioning.UpdateUserUIPassword", None, None, True),
        ("passwords", "x.Y", "admin.user.password.reset.success", None, True),
        ("sessions", "IdentitySignOn.InteractiveLogin", "sso.session.create.success", None, True),
        ("sessions", "x.Y", "sso.session.delete.success", None, True),
        ("user-locking", "identityControlPlane.UpdateUserState", None, None, True),
        ("user-locking", "x.Y", "admin.me.locked.success", None, True),
        ("policy-changes", "identityControlPlane.UpdatePolicy", None, None, True),
        ("policy-changes", "identityControlPlane.ListPolicies", None, None, False),
        ("network-changes", "virtualNetwork.UpdateSecurityList", None, None, True),
        ("network-changes", "NatGateway.CreateNatGateway", None, None, True),
        ("network-changes", "virtualNetwork.ListSubnets", None, None, False),
        ("deletions", "ObjectStorage.DeleteBucket", None, None, True),
        ("deletions", "computeApi.TerminateInstance.end", None, None, True),
        ("deletions", "KeyManagementService.ScheduleKeyDeletion", None, None, True),
        ("deletions", "x.Y", "admin.user.delete.success", None, True),
        ("cis", "identityControlPlane.CreateIdpGroupMapping", None, None, True),
        ("cis", "virtualNetwork.CreateVcn", None, "404", True),
        ("cis", "virtualNetwork.CreateSubnet", None, None, False),
        ("cis", "cloudguard.problemdetected", None, None, True),
        ("cis", "IdentitySignOn.InteractiveLogin", None, None, True),
        ("cis", "IdentitySignOn.FederatedInteractiveLogin", None, None, False),
    ],
)
def test_each_preset_matches_its_events(preset, event_type, domain_name, status, expected) -> None:
    """Each preset matches recorded events of its kind, and not similar ones of another kind."""
    assert is_met(preset, event_type, domain_name, status) is expected


# The event types that public checks of the benchmark look for in rules of the Events service.
BENCHMARK = {
    "identitycontrolplane": (
        "createidentityprovider deleteidentityprovider updateidentityprovider createidpgroupmapping "
        "deleteidpgroupmapping updateidpgroupmapping creategroup deletegroup updategroup createpolicy deletepolicy "
        "updatepolicy createuser deleteuser updateuser updateusercapabilities updateuserstate"
    ),
    "virtualnetwork": (
        "createvcn deletevcn updatevcn changeroutetablecompartment createroutetable deleteroutetable "
        "updateroutetable changesecuritylistcompartment createsecuritylist deletesecuritylist updatesecuritylist "
        "changenetworksecuritygroupcompartment createnetworksecuritygroup deletenetworksecuritygroup "
        "updatenetworksecuritygroup createdrg deletedrg updatedrg createdrgattachment deletedrgattachment "
        "updatedrgattachment changeinternetgatewaycompartment createinternetgateway deleteinternetgateway "
        "updateinternetgateway changelocalpeeringgatewaycompartment createlocalpeeringgateway "
        "deletelocalpeeringgateway.end updatelocalpeeringgateway"
    ),
    "natgateway": "changenatgatewaycompartment createnatgateway deletenatgateway updatenatgateway",
    "servicegateway": (
        "attachserviceid changeservicegatewaycompartment createservicegateway deleteservicegateway.end "
        "detachserviceid updateservicegateway"
    ),
    "cloudguard": "problemdetected problemdismissed problemremediated",
    "identitysignon": "interactivelogin",
}


def test_cis_has_every_event_type_of_the_benchmark() -> None:
    """The preset `cis` matches every event type that the benchmark requires to be monitored."""
    missing = {
        f"{service}.{name}"
        for service, names in BENCHMARK.items()
        for name in names.split()
        if not is_met("cis", f"{service}.{name}")
    }
    assert missing == set()


@pytest.mark.parametrize("preset", [one for one in PRESET_NAMES if one not in {"sign-ins", "sign-in-failures"}])
@pytest.mark.parametrize("client", [oci.identity.IdentityClient, oci.core.VirtualNetworkClient])
def test_no_preset_for_changes_matches_a_read_only_operation(preset: str, client: type) -> None:
    """No read-only operation of Oracle's SDK is in a preset for changes."""
    services = ("identityControlPlane", "virtualNetwork", "Compartments")
    reads = [name for name in list_operations(client) if name.startswith(tuple(word.lower() for word in READS))]
    assert len(reads) > 20
    assert [name for name in reads for service in services if is_met(preset, f"{service}.{name}")] == []


def test_names_without_a_star_are_real_operations() -> None:
    """Every identity or network operation named without a star is one of Oracle's SDK or a known exception."""
    known = list_operations(oci.identity.IdentityClient) | list_operations(oci.core.VirtualNetworkClient)
    known |= {name.casefold() for name in NOT_OF_THE_SDK}
    named = {
        pattern.removeprefix("identityControlPlane.")
        for preset in PRESETS
        for name_rule in preset.rules
        for pattern in name_rule.patterns
        if "*" not in pattern and pattern.count(".") == pattern.startswith("identityControlPlane.")
    }
    assert len(named) > 100
    assert {name for name in named if name.casefold() not in known} == set()


def test_a_mistyped_preset_suggests_similar_ones() -> None:
    """The error suggests similar presets and the hint lists all; case and surrounding spaces do not matter."""
    with pytest.raises(UsageError, match="'network-change' is not a preset; did you mean network-changes") as caught:
        find_preset("network-change")
    assert all(name in str(caught.value.hint) for name in PRESET_NAMES)
    assert find_preset(" CIS ").name == "cis"


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("a.B", "com.oraclecloud.A.b", True),
        ("a.B", "A.b.begin", True),
        ("a.B", "x.a.B", False),
        ("B", "com.oraclecloud.x.b", True),
        ("B", "b", False),
        ("a.B*", "a.Bc.d", True),
        ("a.B", "aXB", False),
        ("a.B", None, False),
        ("sso.*", "sso.x", True),
    ],
)
def test_how_patterns_of_names_match(pattern: str, name: str | None, expected: bool) -> None:
    """Patterns match by service, prefix, stage, star, dots and case as documented."""
    assert NameMatcher([pattern])(name) is expected
    assert NameMatcher([])(name) is False
    assert NameRule((pattern,)).is_about_domains is pattern.startswith("sso.")


def test_the_preset_sign_ins_agrees_with_facts() -> None:
    """The preset `sign-ins` and `Facts.is_sign_in`, which summaries use, agree on recorded names."""
    for event_type in ("IdentitySignOn.VerifyMfaToken", "identityControlPlane.GetUser", "a.B"):
        for domain_name in ("sso.session.create.failure", "sso.session.modify.success", "sso.authentication.x", None):
            event = {
                "eventType": f"com.oraclecloud.{event_type}",
                "data": {"additionalDetails": {"eventId": domain_name}},
            }
            facts = read_facts(json.dumps(event).encode())
            assert is_met("sign-ins", event_type, domain_name) is facts.is_sign_in
