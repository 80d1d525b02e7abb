"""Signatures of manifests and commits, made and checked by OpenSSH (`ssh-keygen -Y`).

Private keys are never read here; only `ssh-keygen` reads them.

Invariants
- A signature is bound to a namespace, `oci-audit-manifest` or `oci-audit-commit`; one made for another purpose does not
  count.
- Only a key that the caller named is the expected signer; for any other good signature the result names the key.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ociaudit.errors import UsageError
from ociaudit.storage.atomic_io import explain_disk, write_file

NAMESPACE = "oci-audit-manifest"
COMMIT_NAMESPACE = "oci-audit-commit"
_IDENTITY = "signer"
_FINGERPRINT = re.compile(r"key (SHA256:\S+)")
_INSTALL_HINT = "install OpenSSH 8.1 or newer (for example: apt-get install openssh-client)"


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """The result of checking a signature: whether it matches the bytes, the key, and whether that key was expected."""

    is_good: bool
    is_expected_signer: bool
    fingerprint: str | None
    message: str


def name_signature(path: Path) -> Path:
    """Return the path of a file's signature: beside it, with the suffix `.sig`."""
    return path.with_name(path.name + ".sig")


def check_signing_key(key: Path) -> None:
    """Check that a key can sign, before any work is done for what it signs.

    Raises:
        UsageError: ssh-keygen is missing, or the key file does not exist or cannot sign.
    """
    _find_ssh_keygen()
    if not key.is_file():
        raise UsageError(f"the signing key {key} does not exist", hint="create one with: ssh-keygen -t ed25519 -f KEY")
    _sign(b"", key, NAMESPACE)


def read_fingerprint(key: Path) -> str:
    """Return the fingerprint of the key that a key file signs with, `SHA256:…`, which is that of its public half.

    It is read from a signature: a public key beside the private one could be another's.

    Raises:
        UsageError: ssh-keygen is missing, or the key file does not exist or cannot sign.
    """
    check_signing_key(key)
    with tempfile.TemporaryDirectory(prefix="oci-audit-") as folder:
        signature_path = Path(folder) / "signature"
        sign_bytes(b"", key, signature_path)
        seen = check_signature(b"", signature_path, None)
    if not seen.is_good or seen.fingerprint is None:
        raise UsageError(f"the key {key} makes no good signature: {seen.message}", hint="name a usable private SSH key")
    return seen.fingerprint


def sign_bytes(data: bytes, key: Path, signature_path: Path, *, namespace: str = NAMESPACE) -> None:
    """Write the armored signature of `data` by the SSH key to `signature_path`.

    Raises:
        UsageError: the key cannot sign; the message is ssh-keygen's.
        DiskError: the signature cannot be written.
    """
    write_file(signature_path, _sign(data, key, namespace))


def _sign(data: bytes, key: Path, namespace: str) -> bytes:
    done = _run(["-Y", "sign", "-q", "-f", str(key), "-n", namespace], data)
    if done.returncode != 0:
        raise UsageError(
            f"the key {key} cannot sign: {_read_message(done)}", hint="name a usable private SSH key with --sign"
        )
    return done.stdout


def check_signature(
    data: bytes, signature_path: Path, signer: Path | None, *, namespace: str = NAMESPACE
) -> SignatureCheck:
    """Check a signature; `signer` is a public key file, or an allowed-signers file of OpenSSH.

    Raises:
        UsageError: ssh-keygen is missing, or `signer` cannot be read.
    """
    seen = _run(["-Y", "check-novalidate", "-n", namespace, "-s", str(signature_path)], data)
    found = _FINGERPRINT.search(seen.stdout.decode("utf-8", "replace"))
    fingerprint = found[1] if found else None
    if seen.returncode != 0:
        return SignatureCheck(
            is_good=False, is_expected_signer=False, fingerprint=fingerprint, message=_read_message(seen)
        )
    if signer is None:
        return SignatureCheck(
            is_good=True,
            is_expected_signer=False,
            fingerprint=fingerprint,
            message=f"signed by key {fingerprint}, which is not verified",
        )
    with tempfile.TemporaryDirectory(prefix="oci-audit-") as folder:
        allowed, identity = _allow_signer(signer, signature_path, Path(folder) / "allowed_signers")
        done = _run(
            ["-Y", "verify", "-n", namespace, "-s", str(signature_path), "-f", str(allowed), "-I", identity], data
        )
    is_expected = done.returncode == 0
    signed = f"signed by {identity}, key {fingerprint}"
    message = signed if is_expected else f"signed by key {fingerprint}, which is not a key of {signer}"
    return SignatureCheck(is_good=True, is_expected_signer=is_expected, fingerprint=fingerprint, message=message)


def _allow_signer(signer: Path, signature_path: Path, allowed: Path) -> tuple[Path, str]:
    """Return an allowed-signers file for OpenSSH and the identity to look for in it."""
    with explain_disk("read", signer):
        text = signer.read_text("utf-8", "replace")
    if re.match(r"(ssh-|ecdsa-|sk-)", text):
        write_file(allowed, f"{_IDENTITY} {text.strip()}\n".encode())
        return allowed, _IDENTITY
    done = _run(["-Y", "find-principals", "-s", str(signature_path), "-f", str(signer)], b"")
    principals = done.stdout.decode("utf-8", "replace").splitlines()
    return signer, principals[0] if done.returncode == 0 and principals else "nobody"


def _run(arguments: Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([_find_ssh_keygen(), *arguments], input=data, capture_output=True, check=False)


def _find_ssh_keygen() -> str:
    path = shutil.which("ssh-keygen")
    if path is None:
        raise UsageError("signing and checking signatures needs ssh-keygen, which is not installed", hint=_INSTALL_HINT)
    return path


def _read_message(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"ssh-keygen failed with exit status {done.returncode}"
