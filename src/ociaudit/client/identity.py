"""The Identity API: the regions and compartments of a tenancy.

Invariants
- A listing is complete or an error (`ScopeUnreadable`, `SignInRejected`, `ServiceUnreachable`); it is never silently
  shortened.
- The request ids of a listing's pages are kept: they prove where the scope comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from ociaudit.client.network import Endpoints
from ociaudit.client.signer import Credentials
from ociaudit.client.transport import HttpClient, HttpResponse, PageTokens
from ociaudit.errors import RequestError, ScopeUnreadable, ServiceError, ServiceUnreachable, SignInRejected
from ociaudit.planning.scope import REGION, Compartment, Region

T = TypeVar("T")
_PAGE_LIMIT = "1000"
_MAX_SKEW_SECONDS = 300
_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A complete listing, and the `opc-request-id` of each of its pages."""

    items: tuple[T, ...]
    request_ids: tuple[str, ...]


class IdentityReader:
    """Reads from the Identity service in the region of the credentials."""

    def __init__(self, client: HttpClient, endpoints: Endpoints, credentials: Credentials) -> None:
        """Send requests through `client` for the tenancy of `credentials`."""
        self._client = client
        self._endpoints = endpoints
        self._credentials = credentials

    async def list_regions(self) -> Listing[Region]:
        """List the tenancy's region subscriptions.

        Raises:
            ScopeUnreadable: the policy is missing.
            SignInRejected: the signature is not accepted.
            ServiceUnreachable: the service gave no usable response.
        """
        url = f"{self._locate()}/tenancies/{quote(self._credentials.tenancy)}/regionSubscriptions"
        try:
            response = await self._fetch(url, _parse_regions)
        except RequestError as error:
            self._raise_listing_error("regions", "--region", error)
        items = tuple(Region(body.regionName, body.status, body.isHomeRegion) for body in response.body)
        return Listing(items, _list_request_ids(response))

    async def list_compartments(self) -> Listing[Compartment]:
        """List every compartment of the tenancy in any state, without the root compartment.

        Raises:
            ScopeUnreadable, SignInRejected, ServiceUnreachable: as `list_regions`.
        """
        query = {
            "compartmentId": self._credentials.tenancy,
            "accessLevel": "ANY",
            "compartmentIdInSubtree": "true",
            "limit": _PAGE_LIMIT,
        }
        items: dict[str, Compartment] = {}
        request_ids: list[str] = []
        tokens = PageTokens()
        while True:
            url = f"{self._locate()}/compartments?{urlencode(query)}"
            try:
                response = await self._fetch(url, _parse_compartments)
                tokens.record(response)
            except RequestError as error:
                self._raise_listing_error("compartments", "--compartment OCID --no-subtree", error)
            for body in response.body:
                items[body.id] = Compartment(body.id, body.name, body.compartmentId, body.lifecycleState)
            request_ids += _list_request_ids(response)
            if response.next_token is None:
                return Listing(tuple(items.values()), tuple(request_ids))
            query["page"] = response.next_token

    async def is_sign_in_accepted(self) -> bool:
        """Return whether the service accepts the signature: any response but 401 means that it does."""
        url = f"{self._locate()}/tenancies/{quote(self._credentials.tenancy)}"
        try:
            await self._fetch(url, _ignore_body)
        except ServiceError as error:
            return error.status != _UNAUTHORIZED
        except RequestError:
            return True  # not known to be rejected; the caller records a gap
        return True

    async def _fetch(self, url: str, parse: Callable[[bytes], T]) -> HttpResponse[T]:
        response = await self._client.fetch(url, parse, endpoint=f"identity {self._credentials.region}")
        response.release()
        return response

    def _locate(self) -> str:
        return self._endpoints.locate("identity", self._credentials.region)

    def _raise_listing_error(self, what: str, option: str, error: RequestError) -> NoReturn:
        """Translate a failed listing into the error that stops the run."""
        if isinstance(error, ServiceError) and error.is_oci and not error.retryable:
            if error.status == _UNAUTHORIZED:
                raise explain_rejection(error, self._credentials) from error
            permission = f"inspect {'tenancies' if what == 'regions' else 'compartments'}"
            raise ScopeUnreadable(
                f"the list of {what} cannot be read: {error}{format_request_id(error)}",
                hint=f"ask for: {self._credentials.format_policy(permission)}; or name them with {option}",
            ) from error
        raise ServiceUnreachable(
            f"the list of {what} could not be fetched: {error}{format_request_id(error)}"
        ) from error


def explain_rejection(error: ServiceError, credentials: Credentials) -> SignInRejected:
    """Return the likely reason for a rejected signature: the clock, the session or the key."""
    skew = error.skew_seconds
    if skew is not None and abs(skew) > _MAX_SKEW_SECONDS:
        direction = "ahead of" if skew > 0 else "behind"
        return SignInRejected(
            f"the local clock is {abs(skew):.0f} s {direction} the service's, which rejects signatures beyond 300 s"
            f"{format_request_id(error)}",
            hint="set the clock (for example with: timedatectl set-ntp true), then run the same command again",
        )
    state = credentials.explain_token()
    return SignInRejected(
        f"the service does not accept the signature: {error}{format_request_id(error)}{f'; {state}' if state else ''}",
        hint=credentials.rejection_hint,
    )


def format_request_id(error: RequestError) -> str:
    """Return the request id in parentheses, to end a message with; empty if there is none."""
    return f" (opc-request-id {error.request_id})" if error.request_id else ""


def _list_request_ids(response: HttpResponse[T]) -> tuple[str, ...]:
    return (response.request_id,) if response.request_id else ()


class _RegionBody(msgspec.Struct):
    regionName: str  # noqa: N815 - the API's name
    status: str
    isHomeRegion: bool = False  # noqa: N815


class _CompartmentBody(msgspec.Struct):
    id: str
    compartmentId: str  # noqa: N815
    lifecycleState: str  # noqa: N815
    name: str = ""


_decode_regions = msgspec.json.Decoder(list[_RegionBody]).decode
_parse_compartments = msgspec.json.Decoder(list[_CompartmentBody]).decode


def _parse_regions(body: bytes) -> list[_RegionBody]:
    """Parse the regions, and validate their names: these become part of host names."""
    regions = _decode_regions(body)
    for region in regions:
        if not REGION.fullmatch(region.regionName):
            raise ValueError(f"{region.regionName[:40]!r} is not the name of a region")
    return regions


def _ignore_body(_: bytes) -> None:
    return None
