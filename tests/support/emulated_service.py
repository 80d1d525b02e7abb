"""The emulated services in this process, without a socket: a client that signs, and clocks that tests set.

Only the emulator's own tests use it; all others start the emulator as a process (`support.emulator`).
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from ociaudit_emulator.command_line import assemble
from ociaudit_emulator.control import LogEntry
from ociaudit_emulator.http import NEXT_PAGE_HEADER, ServerResponse
from ociaudit_emulator.settings import Settings
from ociaudit_emulator.signature import SignedRequest, compute_fingerprint
from ociaudit_emulator.time_formats import parse_time_ms
from support.emulator import split_array

NOW = "2025-12-10T12:34:00Z"
NOW_SECONDS = parse_time_ms(NOW) // 1000
USER = "ocid1.user.oc1..tester"
SIGNED_HEADERS = ("date", "(request-target)", "host")
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class EmulatedService:
    """The emulated services at a fixed time; `seconds` and `monotonic` are their clocks."""

    def __init__(self, **options: Any) -> None:
        """Assemble the services with these settings."""
        self.seconds = float(NOW_SECONDS)
        self.monotonic = 0.0
        settings = Settings(**{"now_ms": NOW_SECONDS * 1000, **options})
        self.assembly = assemble(settings, lambda: self.seconds, lambda: self.monotonic)
        self.tenancy = self.assembly.tenancy
        self.assembly.key_ring.trust_api_key(self.tenancy.id, USER, KEY.public_key())
        self.key_id = f"{self.tenancy.id}/{USER}/{compute_fingerprint(KEY.public_key())}"
        self.last_entry = LogEntry("", "", "")

    def make_request(
        self,
        target: str,
        *,
        key: RSAPrivateKey = KEY,
        key_id: str = "",
        signed: Sequence[str] = SIGNED_HEADERS,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes = b"",
    ) -> SignedRequest:
        """Return a signed request; `signed` names the headers that the signature covers."""
        date = email.utils.formatdate(self.seconds, usegmt=True)
        present = {"host": "emulator", "date": date, **(headers or {})}
        values = {**present, "(request-target)": f"{method.lower()} {target}"}
        signature = sign_text(key, "\n".join(f"{name}: {values[name]}" for name in signed))
        present["authorization"] = (
            f'Signature algorithm="rsa-sha256",headers="{" ".join(signed)}",'
            f'keyId="{key_id or self.key_id}",signature="{signature}",version="1"'
        )
        return SignedRequest(method, target, present, body)

    def serve(self, request: SignedRequest) -> ServerResponse:
        """Return the response to a request, and keep its log entry."""
        path, _, query = request.target.partition("?")
        self.last_entry = LogEntry(request.method, path, query)
        return self.assembly.handler.handle(request, self.last_entry)

    def get(self, path: str, headers: Mapping[str, str] | None = None, **parameters: str) -> ServerResponse:
        """Return the response to a signed GET."""
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        return self.serve(self.make_request(target, headers=headers))

    def send(
        self, method: str, target: str, content: object = None, headers: Mapping[str, str] | None = None
    ) -> ServerResponse:
        """Return the response to a signed request, with a JSON body if there is one."""
        body = b"" if content is None else json.dumps(content).encode()
        signed: tuple[str, ...] = SIGNED_HEADERS
        present = dict(headers or {})
        if method in {"POST", "PUT"}:
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            body_headers = {"content-length": str(len(body)), "content-type": "application/json"}
            present |= body_headers | {"x-content-sha256": digest}
            signed = (*signed, *body_headers, "x-content-sha256")
        return self.serve(self.make_request(target, signed=signed, headers=present, method=method, body=body))

    def upload(self, target: str, content: bytes, headers: Mapping[str, str] | None = None) -> ServerResponse:
        """Return the response to an object or a part, whose body is not signed."""
        request = self.make_request(target, headers=headers, method="PUT")
        path, _, query = target.partition("?")
        self.last_entry = LogEntry("PUT", path, query)
        refusal = self.assembly.handler.admit(request, self.last_entry)
        if refusal is not None:
            return refusal
        writer = self.assembly.objects.start_blob()
        writer.write(content)
        return self.assembly.handler.handle(replace(request, blob=writer.finish()), self.last_entry)

    def list_events(
        self,
        compartment: str,
        start: str,
        end: str,
        *,
        region: str = "",
        page: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> ServerResponse:
        """Return the response to a ListEvents request."""
        parameters = {"compartmentId": compartment, "startTime": start, "endTime": end}
        if page:
            parameters["page"] = page
        prefix = f"/{region}" if region else ""
        return self.get(f"{prefix}/20190901/auditEvents", headers, **parameters)

    def list_pages(self, compartment: str, start: str, end: str, *, region: str = "") -> list[list[bytes]]:
        """Return the events of a window by page."""
        pages: list[list[bytes]] = []
        page = ""
        while not pages or page:
            response = self.list_events(compartment, start, end, region=region, page=page)
            if response.status != 200:
                raise AssertionError(response.body.decode())
            pages.append(split_array(response.body))
            page = response.headers.get(NEXT_PAGE_HEADER, "")
        return pages

    def list_all_events(self, compartment: str, start: str, end: str, *, region: str = "") -> list[bytes]:
        """Return all events of a window."""
        return [event for page in self.list_pages(compartment, start, end, region=region) for event in page]

    def add_fault(self, kind: str, **entry: Any) -> None:
        """Add a scripted fault; the entry's `options` are those of the fault."""
        options = entry.pop("options", {})
        self.assembly.control.faults.add([{"fault": {"kind": kind, **options}, **entry}])

    def fault_states(self) -> list[dict[str, Any]]:
        """Return the scripted faults with their counters."""
        return self.assembly.control.faults.describe()

    def find_compartment(self, name: str) -> str:
        """Return the OCID of a compartment."""
        return next(one.id for one in self.tenancy.compartments if one.name == name)


def sign_text(key: RSAPrivateKey, text: str) -> str:
    """Return a signature in the form of the Authorization header."""
    return base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()
