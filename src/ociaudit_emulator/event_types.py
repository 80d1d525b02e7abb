"""The catalogue of event types: services, operations, their requests and their frequencies.

Names have the letter case that Audit records.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EventType:
    """An operation: the names in its events, its HTTP request, the kind of its resource, and its frequency."""

    service: str
    name: str
    action: str
    path: str
    resource: str = ""
    weight: int = 0

    @property
    def full_name(self) -> str:
        """Return the value of `eventType`."""
        return f"com.oraclecloud.{self.service}.{self.name}"

    @property
    def is_change(self) -> bool:
        """Return whether the operation changes a resource."""
        return self.action != "GET"


_CORE = "/20160918"
_IDENTITY = "identityControlPlane"

_RESOURCE_TYPES = (
    EventType("computeApi", "GetInstance", "GET", f"{_CORE}/instances/{{id}}", "instance", 90),
    EventType("computeApi", "ListInstances", "GET", f"{_CORE}/instances", "", 70),
    EventType("computeApi", "LaunchInstance", "POST", f"{_CORE}/instances", "instance", 14),
    EventType("computeApi", "TerminateInstance", "DELETE", f"{_CORE}/instances/{{id}}", "instance", 8),
    EventType("computeApi", "InstanceAction", "POST", f"{_CORE}/instances/{{id}}", "instance", 16),
    EventType("computeApi", "UpdateInstance", "PUT", f"{_CORE}/instances/{{id}}", "instance", 8),
    EventType("computeApi", "ListVnicAttachments", "GET", f"{_CORE}/vnicAttachments", "", 30),
    EventType("computeApi", "AttachVolume", "POST", f"{_CORE}/volumeAttachments", "volumeattachment", 5),
    EventType("blockVolumes", "GetVolume", "GET", f"{_CORE}/volumes/{{id}}", "volume", 20),
    EventType("blockVolumes", "CreateVolumeBackup", "POST", f"{_CORE}/volumeBackups", "volumebackup", 12),
    EventType("virtualNetwork", "GetVnic", "GET", f"{_CORE}/vnics/{{id}}", "vnic", 45),
    EventType("virtualNetwork", "ListSubnets", "GET", f"{_CORE}/subnets", "", 40),
    EventType("virtualNetwork", "CreateVcn", "POST", f"{_CORE}/vcns", "vcn", 4),
    EventType("virtualNetwork", "UpdateSecurityList", "PUT", f"{_CORE}/securityLists/{{id}}", "securitylist", 6),
    EventType("virtualNetwork", "UpdateRouteTable", "PUT", f"{_CORE}/routeTables/{{id}}", "routetable", 4),
    EventType("objectStorage", "ListBuckets", "GET", "/n/example/b", "", 60),
    EventType("objectStorage", "GetBucket", "GET", "/n/example/b/{name}", "bucket", 70),
    EventType("objectStorage", "UpdateBucket", "POST", "/n/example/b/{name}", "bucket", 6),
    EventType("objectStorage", "CreatePreauthenticatedRequest", "POST", "/n/example/b/{name}/p", "bucket", 5),
    EventType("DatabaseService", "ListDbSystems", "GET", "/20160918/dbSystems", "", 18),
    EventType(
        "DatabaseService",
        "GetAutonomousDatabase",
        "GET",
        "/20160918/autonomousDatabases/{id}",
        "autonomousdatabase",
        25,
    ),
    EventType(
        "DatabaseService",
        "GenerateAutonomousDatabaseWallet",
        "POST",
        "/20160918/autonomousDatabases/{id}/actions/generateWallet",
        "autonomousdatabase",
        4,
    ),
    EventType(
        "LoadBalancer",
        "GetLoadBalancerHealth",
        "GET",
        "/20170115/loadBalancers/{id}/health",
        "loadbalancer",
        40,
    ),
    EventType(
        "LoadBalancer",
        "UpdateBackendSet",
        "PUT",
        "/20170115/loadBalancers/{id}/backendSets/{name}",
        "loadbalancer",
        5,
    ),
    EventType("KeyManagementService", "GetVault", "GET", "/20180608/vaults/{id}", "vault", 12),
    EventType("KeyManagementService", "Decrypt", "POST", "/20180608/decrypt", "key", 35),
    EventType("SecretManagement", "GetSecretBundle", "GET", "/20190301/secretbundles/{id}", "vaultsecret", 30),
    EventType("ContainerEngine", "ListNodePools", "GET", "/20180222/nodePools", "", 14),
    EventType(
        "ContainerEngine",
        "CreateKubeconfig",
        "POST",
        "/20180222/clusters/{id}/kubeconfig/content",
        "cluster",
        6,
    ),
    EventType("functions", "GetFunction", "GET", "/20181201/functions/{id}", "fnfunc", 16),
    EventType("NotificationControlPlane", "ListTopics", "GET", "/20181201/topics", "", 8),
    EventType("Bastion", "CreateSession", "POST", "/20210331/sessions", "bastionsession", 6),
    EventType("FileStorage", "ListFileSystems", "GET", "/20171215/fileSystems", "", 8),
    EventType("ResourceManager", "CreateJob", "POST", "/20180917/jobs", "ormjob", 8),
    EventType("apiGateway", "UpdateDeployment", "PUT", "/20190501/deployments/{id}", "apideployment", 4),
    EventType("dns", "PatchZoneRecords", "PUT", "/20180115/zones/{id}/records", "dns-zone", 4),
    EventType("telemetry", "SummarizeMetricsData", "POST", "/20180401/metrics/actions/summarizeMetricsData", "", 60),
)

_IDENTITY_TYPES = (
    EventType("Compartments", "ListCompartments", "GET", f"{_CORE}/compartments", "", 60),
    EventType(_IDENTITY, "ListUsers", "GET", f"{_CORE}/users", "", 30),
    EventType(_IDENTITY, "GetUser", "GET", f"{_CORE}/users/{{id}}", "user", 40),
    EventType(_IDENTITY, "ListPolicies", "GET", f"{_CORE}/policies", "", 20),
    EventType(_IDENTITY, "ListApiKeys", "GET", f"{_CORE}/users/{{id}}/apiKeys", "user", 15),
    EventType(
        "LoggingAnalytics",
        "ParseQuery",
        "POST",
        "/20200601/namespaces/example/search/actions/parse",
        "",
        20,
    ),
    EventType("CloudGuard", "ListProblems", "GET", "/20200131/problems", "", 15),
    EventType("Audit", "ListEvents", "GET", "/20190901/auditEvents", "", 25),
    EventType("Audit", "GetConfiguration", "GET", "/20190901/configuration", "", 4),
    EventType(_IDENTITY, "CreateUser", "POST", f"{_CORE}/users", "user", 2),
    EventType(
        _IDENTITY,
        "AddUserToGroup",
        "POST",
        f"{_CORE}/userGroupMemberships",
        "groupmembership",
        2,
    ),
    EventType(_IDENTITY, "CreateGroup", "POST", f"{_CORE}/groups", "group", 1),
    EventType(_IDENTITY, "CreatePolicy", "POST", f"{_CORE}/policies", "policy", 1),
    EventType(_IDENTITY, "UpdatePolicy", "PUT", f"{_CORE}/policies/{{id}}", "policy", 1),
)

# Rare operations that people search for by name: they happen on fixed days, not at random.
CREDENTIAL_TYPES = (
    EventType(_IDENTITY, "UploadApiKey", "POST", f"{_CORE}/users/{{id}}/apiKeys", "user"),
    EventType(_IDENTITY, "DeleteApiKey", "DELETE", f"{_CORE}/users/{{id}}/apiKeys/key", "user"),
    EventType(_IDENTITY, "CreateAuthToken", "POST", f"{_CORE}/users/{{id}}/authTokens", "user"),
    EventType(_IDENTITY, "DeleteAuthToken", "DELETE", f"{_CORE}/users/{{id}}/authTokens/token", "user"),
    EventType(_IDENTITY, "CreateOrResetPassword", "POST", f"{_CORE}/users/{{id}}/uiPassword", "user"),
    EventType("IdentityProvisioning", "UpdateUserUIPassword", "PUT", f"{_CORE}/users/{{id}}/uiPassword", "user"),
    EventType(_IDENTITY, "CreateMfaTotpDevice", "POST", f"{_CORE}/users/{{id}}/mfaTotpDevices", "user"),
    EventType(
        _IDENTITY,
        "ActivateMfaTotpDevice",
        "POST",
        f"{_CORE}/users/{{id}}/mfaTotpDevices/device/actions/activate",
        "user",
    ),
    EventType(_IDENTITY, "DeleteMfaTotpDevice", "DELETE", f"{_CORE}/users/{{id}}/mfaTotpDevices/device", "user"),
    EventType(
        _IDENTITY,
        "GenerateTotpSeed",
        "POST",
        f"{_CORE}/users/{{id}}/mfaTotpDevices/device/actions/generateSeed",
        "user",
    ),
    EventType(_IDENTITY, "UpdateUserState", "PUT", f"{_CORE}/users/{{id}}/state", "user"),
)

INTERACTIVE_LOGIN = EventType("IdentitySignOn", "InteractiveLogin", "", "")
FEDERATED_LOGIN = EventType("IdentitySignOn", "FederatedInteractiveLogin", "", "")
VERIFY_MFA = EventType("IdentitySignOn", "VerifyMfaToken", "", "")
CHANGE_PASSWORD = EventType("IdentitySignOn", "ChangePassword", "", "")
RESET_PASSWORD = EventType("IdentitySignOn", "ResetPasswordAndAuthenticate", "", "")
SIGN_IN_TYPES = (INTERACTIVE_LOGIN, FEDERATED_LOGIN, VERIFY_MFA, CHANGE_PASSWORD, RESET_PASSWORD)

EVENT_TYPES = _RESOURCE_TYPES + _IDENTITY_TYPES + CREDENTIAL_TYPES + SIGN_IN_TYPES
_BY_NAME = {one.name: one for one in EVENT_TYPES}


def find_event_type(name: str) -> EventType:
    """Return an event type by the last part of its name."""
    return _BY_NAME[name]


class Mix:
    """A weighted choice of event types; choosing one costs a look-up."""

    def __init__(self, event_types: tuple[EventType, ...]) -> None:
        """Repeat each type in a table as often as its weight."""
        self._table = tuple(one for one in event_types for _ in range(one.weight))

    def choose(self, number: int) -> EventType:
        """Return the event type for a drawn number."""
        return self._table[number % len(self._table)]


RESOURCE_MIX = Mix(_RESOURCE_TYPES)
IDENTITY_MIX = Mix(_IDENTITY_TYPES + _RESOURCE_TYPES[:2])
