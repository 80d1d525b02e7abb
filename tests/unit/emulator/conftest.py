"""An emulated service without a socket, and a client that signs for it."""

import base64
import email.utils
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from ociaudit_emulator.answer import NEXT_PAGE_HEADER, Answer
from ociaudit_emulator.assembly import assemble
from ociaudit_emulator.behaviour import Behaviour
from ociaudit_emulator.instants import parse_instant_ms
from ociaudit_emulator.keys import fingerprint_of
from ociaudit_emulator.request_log import LogEntry
from ociaudit_emulator.signature import SignedRequest
from support.emulator import cut_array

NOW = "2025-12-10T12:34:00Z"
NOW_SECONDS = parse_instant_ms(NOW) // 1000
USER = "ocid1.user.oc1..tester"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def sign_text(key: RSAPrivateKey, text: str) -> str:
    """The signature of a text, as it stands in the header."""
    return base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()


@dataclass
class EmulatedService:
    """The service in this process, on a clock that tests move."""

    behaviour: Behaviour
    seconds: float = NOW_SECONDS
    monotonic: float = 0.0
    last_entry: LogEntry = field(default_factory=lambda: LogEntry("", "", ""))

    def __post_init__(self):
        self.assembly = assemble(self.behaviour, lambda: self.seconds, lambda: self.monotonic)
        self.tenancy = self.assembly.tenancy
        self.assembly.key_ring.trust_api_key(self.tenancy.id, USER, KEY.public_key())
        self.key_id = f"{self.tenancy.id}/{USER}/{fingerprint_of(KEY.public_key())}"

    def make_request(self, target, *, key=KEY, key_id=None, signed=("date", "(request-target)", "host"), **headers):
        """A signed request; `signed` names what the signature covers."""
        date = email.utils.formatdate(self.seconds, usegmt=True)
        present = {"host": "emulator", "date": date, **{n.replace("_", "-"): v for n, v in headers.items()}}
        values = {**present, "(request-target)": f"get {target}"}
        signature = sign_text(key, "\n".join(f"{name}: {values[name]}" for name in signed))
        present["authorization"] = (
            f'Signature algorithm="rsa-sha256",headers="{" ".join(signed)}",'
            f'keyId="{key_id or self.key_id}",signature="{signature}",version="1"'
        )
        return SignedRequest("GET", target, present)

    def serve(self, request) -> Answer:
        """The answer to a request, and its log entry."""
        path, _, query = request.target.partition("?")
        self.last_entry = LogEntry(request.method, path, query)
        return self.assembly.service.serve(request, self.last_entry)

    def get(self, path, headers=None, **parameters) -> Answer:
        """The answer to a signed GET."""
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        return self.serve(self.make_request(target, **(headers or {})))

    def list_events(self, compartment, start, end, *, region="", page=None, headers=None) -> Answer:
        """The answer to one ListEvents request."""
        parameters = {"compartmentId": compartment, "startTime": start, "endTime": end}
        if page is not None:
            parameters["page"] = page
        return self.get(f"{region and '/' + region}/20190901/auditEvents", headers, **parameters)

    def list_all_events(self, compartment, start, end, *, region="") -> list[bytes]:
        """Every event of a window, page by page."""
        events, page = [], None
        while True:
            answer = self.list_events(compartment, start, end, region=region, page=page)
            assert answer.status == 200, answer.body
            events += cut_array(answer.body)
            page = answer.headers.get(NEXT_PAGE_HEADER)
            if page is None:
                return events

    def find_compartment(self, name) -> str:
        """The OCID of a compartment."""
        return next(one.id for one in self.tenancy.compartments if one.name == name)


@pytest.fixture
def make_service():
    """Makes a service at a fixed moment, with any behaviour."""

    def make(**options):
        return EmulatedService(Behaviour(**{"now_ms": NOW_SECONDS * 1000, **options}))

    return make


@pytest.fixture
def service(make_service):
    """A service with the usual behaviour."""
    return make_service()
