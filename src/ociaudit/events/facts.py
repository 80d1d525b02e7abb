"""What people ask about an event: who did what to what, from where, and how it ended.

Owns: the scalar fields of an event behind columns, filters, summaries and reports, read in one pass.
Must not: know any of those, or change an event.

Invariants
- Reading never fails on an event that is a JSON object; a field of an unexpected type counts as absent,
  except that a number is read as its digits where Oracle writes text.
- No text holds a lone surrogate: it stands as the escape it came as, so every text can be encoded.
- The strings are the events' own: hostile on a screen, in HTML, in CSV and in SQL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from ociaudit.events.fields import read_instant, replace_surrogates
from ociaudit.events.outcome import Outcome, is_sign_in, judge_outcome


class Identity(msgspec.Struct, gc=False, rename="camel"):
    """Who asked."""

    principal_name: str | None = None
    principal_id: str | None = None
    auth_type: str | None = None
    caller_name: str | None = None
    caller_id: str | None = None
    tenant_id: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    console_session_id: str | None = None


class Request(msgspec.Struct, gc=False, rename="camel"):
    """What was asked."""

    id: str | None = None
    path: str | None = None
    action: str | None = None


class Response(msgspec.Struct, gc=False, rename="camel"):
    """What was answered."""

    status: str | None = None
    response_time: str | None = None
    message: str | None = None


class Details(msgspec.Struct, gc=False, rename="camel"):
    """What an identity domain adds."""

    event_id: str | None = None


class Data(msgspec.Struct, gc=False, rename="camel"):
    """The event's `data`."""

    event_grouping_id: str | None = None
    event_name: str | None = None
    compartment_id: str | None = None
    compartment_name: str | None = None
    resource_name: str | None = None
    resource_id: str | None = None
    availability_domain: str | None = None
    message: str | None = None
    identity: Identity | None = None
    request: Request | None = None
    response: Response | None = None
    additional_details: Details | None = None


class Facts(msgspec.Struct, gc=False, rename="camel"):
    """One event as people ask about it; every model may be absent, `data` never is."""

    event_time: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    source: str | None = None
    data: Data | None = None

    @property
    def details(self) -> Data:
        """Return `data`, empty where the event has none."""
        return self.data or _NO_DATA

    @property
    def identity(self) -> Identity:
        """Return who asked, empty where the event does not say."""
        return self.details.identity or _NO_IDENTITY

    @property
    def request(self) -> Request:
        """Return what was asked, empty where the event does not say."""
        return self.details.request or _NO_REQUEST

    @property
    def response(self) -> Response:
        """Return what was answered, empty where the event does not say."""
        return self.details.response or _NO_RESPONSE

    @property
    def instant(self) -> int:
        """Return the event's time in nanoseconds, as `events.fields.read_instant` counts them."""
        return read_instant(self.event_time)

    @property
    def domain_event(self) -> str | None:
        """Return the identity domain's own name of the event, for example `sso.session.create.success`."""
        details = self.details.additional_details
        return details.event_id if details else None

    @property
    def outcome(self) -> Outcome:
        """Return whether it succeeded, as far as the event tells."""
        return judge_outcome(self.response.status, self.domain_event, self.details.message)

    @property
    def is_sign_in(self) -> bool:
        """Tell whether it is somebody signing in to the console, or trying to."""
        return is_sign_in(self.event_type, self.domain_event)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the source addresses: Audit may write several into one field, with commas."""
        return split_addresses(self.identity.ip_address)


_NO_DATA = Data()
_NO_IDENTITY = Identity()
_NO_REQUEST = Request()
_NO_RESPONSE = Response()
_facts_decoder = msgspec.json.Decoder(Facts)


def read_facts(raw: bytes) -> Facts:
    """Read an event: a JSON object in the API's spelling.

    Raises:
        ValueError: the bytes are not a JSON object.
    """
    try:
        return _facts_decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return read_loose_facts(raw)


def read_loose_facts(raw: bytes) -> Facts:
    """Read an event with fields of any type, lone surrogates included; slower than `read_facts`.

    Raises:
        ValueError: the bytes are not a JSON object.
    """
    try:
        event = json.loads(raw, parse_int=str, parse_float=str)
    except RecursionError as error:
        raise ValueError("nested too deeply to be read") from error
    if not isinstance(event, dict):
        raise ValueError("this is not a JSON object")  # noqa: TRY004 - bad data, not a bad argument
    facts: Facts = _fill(Facts, event)
    return facts


def read_sdk_facts(event: Mapping[str, Any]) -> Facts:
    """Read an event in the SDK's spelling, as `oci.util.to_dict` gives it."""
    facts: Facts = _fill(Facts, event, is_sdk=True)
    return facts


def split_addresses(text: str | None) -> tuple[str, ...]:
    """Return the addresses of a comma list, in its order."""
    if not text:
        return ()
    if "," not in text:
        return (text.strip(),)
    return tuple(part.strip() for part in text.split(",") if part.strip())


_MODELS: Mapping[str, type[msgspec.Struct]] = {
    "data": Data,
    "identity": Identity,
    "request": Request,
    "response": Response,
    "additional_details": Details,
}


def _fill(kind: type[msgspec.Struct], served: Mapping[str, Any], *, is_sdk: bool = False) -> Any:
    # In the SDK's spelling the keys of free maps, as the additional details are, stay as served.
    spellings = kind.__struct_fields__ if is_sdk and kind is not Details else kind.__struct_encode_fields__
    values: dict[str, Any] = {}
    for name, spelled in zip(kind.__struct_fields__, spellings, strict=True):
        value = served.get(spelled)
        if name in _MODELS:
            values[name] = _fill(_MODELS[name], value, is_sdk=is_sdk) if isinstance(value, Mapping) else None
        else:
            values[name] = replace_surrogates(value) if isinstance(value, str) else None
    return kind(**values)
