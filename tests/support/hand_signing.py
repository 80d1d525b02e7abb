"""Requests signed without an SDK, so that tests can sign them wrongly.

The signature follows Oracle's documentation and shares no code with the SDK or the emulator. Where a real client
would do, use that.
"""

from __future__ import annotations

import base64
import configparser
import email.utils
import http.client
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key


@dataclass(frozen=True, slots=True)
class SigningCredentials:
    """A keyId and the private key that signs for it."""

    key_id: str
    key: RSAPrivateKey
    tenancy_id: str

    @classmethod
    def read(cls, config_path: Path, profile: str = "DEFAULT") -> Self:
        """Read a profile with an unencrypted key: its API key, or its session."""
        config = configparser.ConfigParser(interpolation=None)
        config.read(config_path)
        found = config[profile]
        key = load_pem_private_key(Path(found["key_file"]).read_bytes(), None)
        if not isinstance(key, RSAPrivateKey):
            raise TypeError(f"{found['key_file']} is not an RSA key")
        key_id = f"{found['tenancy']}/{found['user']}/{found['fingerprint']}"
        if "security_token_file" in found:
            key_id = f"ST${Path(found['security_token_file']).read_text(encoding='utf-8')}"
        return cls(key_id, key, found["tenancy"])


@dataclass(frozen=True, slots=True)
class CompleteResponse:
    """A response read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes


def sign_headers(
    credentials: SigningCredentials, host: str, target: str, *, skew_seconds: float = 0.0, method: str = "GET"
) -> dict[str, str]:
    """Return the headers of a request without a signed body, by a client whose clock is ahead by so many seconds."""
    date = email.utils.formatdate(time.time() + skew_seconds, usegmt=True)
    text = f"date: {date}\n(request-target): {method.lower()} {target}\nhost: {host}"
    raw = credentials.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    authorization = (
        'Signature algorithm="rsa-sha256",headers="date (request-target) host",'
        f'keyId="{credentials.key_id}",signature="{base64.b64encode(raw).decode()}",version="1"'
    )
    return {"date": date, "host": host, "Authorization": authorization}


def make_target(path: str, **parameters: str) -> str:
    """Return a path with its parameters, encoded for the wire."""
    return f"{path}?{urlencode(parameters)}"


def get(port: int, target: str, headers: dict[str, str], seconds: float = 10.0) -> CompleteResponse:
    """Send a GET with exactly these headers, and return the whole response.

    Raises: the errors of http.client and of the socket when the response is incomplete.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", target, headers=headers)
        with connection.getresponse() as response:
            return CompleteResponse(response.status, dict(response.headers), response.read())
    finally:
        connection.close()
