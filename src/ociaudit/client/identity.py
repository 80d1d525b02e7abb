"""What a tenancy consists of: its regions and compartments, as Identity lists them.

Owns: the listings, to their last page. Must not: choose among what is listed.

Invariants
- A listing is whole or an error (`ScopeUnreadable`, `SignInRejected`, `ServiceUnreachable`); it is never
  shortened in silence.
- The request ids of a listing's pages are kept: they prove what the scope was made from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from ociaudit.client.http_client import Client
from ociaudit.client.network import Endpoints
from ociaudit.client.signer import Credentials
from ociaudit.client.transport import HttpResponse
from ociaudit.errors import RequestError, ScopeUnreadable, ServiceError, ServiceUnreachable, SignInRejected
from ociaudit.planning.scope import REGION, Compartment, Region

T = TypeVar("T")
_PAGE_LIMIT = "1000"
_MAX_SKEW_SECONDS = 300
_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A whole listing and the `opc-request-id` of each of its pages."""

    items: tuple[T, ...]
    request_ids: tuple[str, ...]


class _RegionBody(msgspec.Struct):
    regionName: str  # noqa: N815 - the API's spelling
    status: str
    isHomeRegion: bool = False  # noqa: N815


class _CompartmentBody(msgspec.Struct):
    id: str
    compartmentId: str  # noqa: N815
    lifecycleState: str  # noqa: N815
    name: str = ""


class IdentityReader:
    """Asks the Identity service in the profile's region."""

    def __init__(self, client: Client, endpoints: Endpoints, credentials: Credentials) -> None:
        """Ask through `client` for the tenancy of `credentials`."""
        self._client = client
        self._endpoints = endpoints
        self._credentials = credentials

    async def list_regions(self) -> Listing[Region]:
        """List the tenancy's region subscriptions.

        Raises:
            ScopeUnreadable: the policy is missing.
            SignInRejected: the signature is not accepted.
            ServiceUnreachable: no usable answer.
        """
        url = f"{self._locate()}/tenancies/{quote(self._credentials.tenancy)}/regionSubscriptions"
        try:
            answer = await self._fetch(url, _check_regions)
        except RequestError as error:
            self._explain("regions", "--region", error)
        items = tuple(Region(body.regionName, body.status, body.isHomeRegion) for body in answer.body)
        return Listing(items, _ids(answer))

    async def list_compartments(self) -> Listing[Compartment]:
        """List every compartment of the tenancy, of any state, root not included.

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
        tokens: set[str] = set()
        while True:
            url = f"{self._locate()}/compartments?{urlencode(query)}"
            try:
                answer = await self._fetch(url, _check_compartments)
            except RequestError as error:
                self._explain("compartments", "--compartment with --no-subtree", error)
            for body in answer.body:
                items[body.id] = Compartment(body.id, body.name, body.compartmentId, body.lifecycleState)
            request_ids += _ids(answer)
            if answer.next_token is None:
                return Listing(tuple(items.values()), tuple(request_ids))
            if answer.next_token in tokens:
                raise ServiceUnreachable("the list of compartments goes round in circles: a page token came twice")
            tokens.add(answer.next_token)
            query["page"] = answer.next_token

    async def is_sign_in_accepted(self) -> bool:
        """Tell whether the key still works, whatever it may read: anything but 401 means that it does."""
        url = f"{self._locate()}/tenancies/{quote(self._credentials.tenancy)}"
        try:
            await self._fetch(url, _accept_any)
        except ServiceError as error:
            return error.status != _UNAUTHORIZED
        except RequestError:
            return True  # not known to be refused; the caller records the gap it has
        return True

    async def _fetch(self, url: str, check: Callable[[bytes], T]) -> HttpResponse[T]:
        answer = await self._client.fetch(url, check, endpoint=f"identity {self._credentials.region}")
        answer.release()
        return answer

    def _locate(self) -> str:
        return self._endpoints.locate("identity", self._credentials.region)

    def _explain(self, what: str, option: str, error: RequestError) -> NoReturn:
        """Turn a failed listing into the error that stops the run."""
        if isinstance(error, ServiceError) and error.is_oci and not error.retryable:
            if error.status == _UNAUTHORIZED:
                raise explain_rejection(error, self._credentials) from error
            permission = f"inspect {'tenancies' if what == 'regions' else 'compartments'}"
            raise ScopeUnreadable(
                f"the list of {what} cannot be read: {error}{show_request_id(error)}",
                hint=f"ask for: {self._credentials.state_policy(permission)}; or name them with {option}",
            ) from error
        raise ServiceUnreachable(f"the list of {what} did not come: {error}{show_request_id(error)}") from error


def explain_rejection(error: ServiceError, credentials: Credentials) -> SignInRejected:
    """Say why the service may have refused the signature: the clock, the session or the key."""
    skew = error.skew_seconds
    if skew is not None and abs(skew) > _MAX_SKEW_SECONDS:
        direction = "ahead of" if skew > 0 else "behind"
        return SignInRejected(
            f"the local clock is {abs(skew):.0f} s {direction} the service's; signatures are refused beyond 300 s"
            f"{show_request_id(error)}",
            hint="set the clock (for example with: timedatectl set-ntp true), then run the same command again",
        )
    state = credentials.explain_state()
    return SignInRejected(
        f"the service does not accept the signature: {error}{show_request_id(error)}{f'; {state}' if state else ''}",
        hint=credentials.rejection_hint,
    )


def show_request_id(error: RequestError) -> str:
    """Return the request id as the end of a sentence."""
    return f" (opc-request-id {error.request_id})" if error.request_id else ""


def _ids(answer: HttpResponse[T]) -> tuple[str, ...]:
    return (answer.request_id,) if answer.request_id else ()


def _make_check(kind: type[T]) -> Callable[[bytes], T]:
    return msgspec.json.Decoder(kind).decode


_decode_regions = _make_check(list[_RegionBody])
_check_compartments = _make_check(list[_CompartmentBody])


def _check_regions(body: bytes) -> list[_RegionBody]:
    """Decode the regions; their names become part of the hosts that are asked, so they must be names."""
    regions = _decode_regions(body)
    for region in regions:
        if not REGION.fullmatch(region.regionName):
            raise ValueError(f"{region.regionName[:40]!r} is not the name of a region")
    return regions


def _accept_any(_: bytes) -> None:
    return None
