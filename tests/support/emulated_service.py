"""The emulated service in this process: no socket, a clock that tests move, and a client that signs.

Owns: how unit tests of the emulator ask it.
Must not: be used by anything but tests of the emulator; all others start it as a process.
"""

from __future__ import annotations

import base64
import email.utils
from collections.abc import Mapping, Sequence
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
USUALLY_SIGNED = ("date", "(request-target)", "host")
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class EmulatedService:
    """A service at a fixed moment; `seconds` and `monotonic` are its clocks."""

    def __init__(self, **options: Any) -> None:
        """Put a service together whose settings has these options."""
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
        signed: Sequence[str] = USUALLY_SIGNED,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes = b"",
    ) -> SignedRequest:
        """Make a signed request; `signed` names what the signature covers."""
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
        """Answer a request, and keep its log entry."""
        path, _, query = request.target.partition("?")
        self.last_entry = LogEntry(request.method, path, query)
        return self.assembly.handler.handle(request, self.last_entry)

    def get(self, path: str, headers: Mapping[str, str] | None = None, **parameters: str) -> ServerResponse:
        """Answer a signed GET."""
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        return self.serve(self.make_request(target, headers=headers))

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
        """Answer one ListEvents request."""
        parameters = {"compartmentId": compartment, "startTime": start, "endTime": end}
        if page:
            parameters["page"] = page
        prefix = f"/{region}" if region else ""
        return self.get(f"{prefix}/20190901/auditEvents", headers, **parameters)

    def list_pages(self, compartment: str, start: str, end: str, *, region: str = "") -> list[list[bytes]]:
        """Ask for every page of a window."""
        pages: list[list[bytes]] = []
        page = ""
        while not pages or page:
            answer = self.list_events(compartment, start, end, region=region, page=page)
            if answer.status != 200:
                raise AssertionError(answer.body.decode())
            pages.append(split_array(answer.body))
            page = answer.headers.get(NEXT_PAGE_HEADER, "")
        return pages

    def list_all_events(self, compartment: str, start: str, end: str, *, region: str = "") -> list[bytes]:
        """Ask for every event of a window."""
        return [event for page in self.list_pages(compartment, start, end, region=region) for event in page]

    def add_fault(self, kind: str, **entry: Any) -> None:
        """Add one scripted fault; `options` are the fault's own."""
        options = entry.pop("options", {})
        self.assembly.control.faults.add([{"fault": {"kind": kind, **options}, **entry}])

    def fault_states(self) -> list[dict[str, Any]]:
        """Give the scripted faults with what each has done."""
        return self.assembly.control.faults.describe()

    def find_compartment(self, name: str) -> str:
        """Find the OCID of a compartment."""
        return next(one.id for one in self.tenancy.compartments if one.name == name)


def sign_text(key: RSAPrivateKey, text: str) -> str:
    """Sign a text as the header holds it."""
    return base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()
