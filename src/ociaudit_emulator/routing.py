"""From a request's path to the operation that it names.

Owns: the paths of the emulated services, bare or below a region.
Must not: run an operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qsl, unquote

from ociaudit_emulator.service_error import ServiceError, missing_parameter
from ociaudit_emulator.tenancy import HOME_REGION


class Operation(StrEnum):
    """What can be asked, by Oracle's names."""

    LIST_EVENTS = "ListEvents"
    GET_CONFIGURATION = "GetConfiguration"
    LIST_REGION_SUBSCRIPTIONS = "ListRegionSubscriptions"
    LIST_COMPARTMENTS = "ListCompartments"
    GET_COMPARTMENT = "GetCompartment"
    GET_TENANCY = "GetTenancy"


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a service: where, what, about which resource, with which parameters."""

    region: str
    operation: Operation
    resource_id: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)

    def require(self, name: str) -> str:
        """Give a parameter's value.

        Raises: ServiceError (400) when it is absent or empty.
        """
        value = self.parameters.get(name)
        if not value:
            raise missing_parameter(name)
        return value


# A path's segments; "*" stands for the resource's id.
_ROUTES: Mapping[tuple[str, ...], Operation] = {
    ("20190901", "auditEvents"): Operation.LIST_EVENTS,
    ("20190901", "configuration"): Operation.GET_CONFIGURATION,
    ("20160918", "compartments"): Operation.LIST_COMPARTMENTS,
    ("20160918", "compartments", "*"): Operation.GET_COMPARTMENT,
    ("20160918", "tenancies", "*"): Operation.GET_TENANCY,
    ("20160918", "tenancies", "*", "regionSubscriptions"): Operation.LIST_REGION_SUBSCRIPTIONS,
}
_VERSIONS = frozenset(route[0] for route in _ROUTES)


def find_call(method: str, target: str) -> Call:
    """Find what a request asks for.

    Raises: ServiceError (404, 405) when nothing here has that path or method.
    """
    path, _, query = target.partition("?")
    segments = path.strip("/").split("/")
    region = HOME_REGION if segments[0] in _VERSIONS else segments.pop(0)
    resource_id = unquote(segments[2]) if len(segments) > 2 else ""
    operation = _ROUTES.get(tuple("*" if at == 2 else part for at, part in enumerate(segments)))
    if operation is None:
        raise ServiceError(404, "NotFound", f"No operation of this service has the path {path}.")
    if method != "GET":
        raise ServiceError(405, "MethodNotAllowed", f"{operation} is asked with GET, not {method}.")
    return Call(region, operation, resource_id, dict(parse_qsl(query, keep_blank_values=True)))
