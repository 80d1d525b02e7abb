"""The upload of a large file to Object Storage compared with `curl -T`, both to the emulator."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

from bench.benchmark import Row, Workspace, skip_without_space
from bench.emulator import EmulatorProcess
from bench.measure import Contender, RunError, choose_median, run_in_turns

_BUCKET = "exports"
_BYTES = 1_000_000_000
_QUICK_BYTES = 200_000_000
_BLOCK = 10_000_000
_LEAST_RATIO = 0.5
# What an export does once its output is whole; the hash is known then.
_UPLOAD = """
import sys
from pathlib import Path
from ociaudit import api
from ociaudit.client.object_storage import UploadWatch, parse_object_url
from ociaudit.operations.context import ConnectionOptions, use_store
config, endpoint, path, sha256, name = sys.argv[1:]
url = parse_object_url("oci://exports/" + name)
context = api.resolve_connection(ConnectionOptions(config_file=config, endpoint=endpoint + "/{region}"))
watch = UploadWatch()
watch.sha256 = sha256
use_store(context, url, lambda store: store.put_file(url.name, Path(path), replaces=None, watch=watch), moment="")
"""


def run_upload(workspace: Workspace) -> Sequence[Row]:
    """Upload the same file in turns; the emulator forgets it in between."""
    size = _QUICK_BYTES if workspace.is_quick else _BYTES
    folder = workspace.make_folder("upload")
    if not workspace.has_space(3 * size):
        return skip_without_space("upload", 3 * size)
    curl = shutil.which("curl")
    if curl is None:
        return [Row("upload: skipped, there is no curl")]
    path, sha256 = _make_file(folder / "file", size)
    with EmulatorProcess(folder / "config", "--bucket", _BUCKET) as emulator:
        contenders = [_make_ours(emulator, path, sha256), _make_curl(emulator, curl, path)]
        usages = run_in_turns(contenders, lambda name: workspace.make_folder(f"upload/{name}"), rounds=workspace.rounds)
    ours, theirs = (choose_median(usages[one.name]) for one in contenders)
    ratio = theirs.wall_seconds / ours.wall_seconds
    figures = {**ours.list_figures(), "MB/s": size / 1e6 / ours.wall_seconds, "x curl": ratio}
    return [
        Row(f"upload of {size / 1e9:.1f} GB", figures, f"at least {_LEAST_RATIO}", ratio >= _LEAST_RATIO),
        Row("curl -T", {**theirs.list_figures(), "MB/s": size / 1e6 / theirs.wall_seconds}),
    ]


def _make_file(path: Path, size: int) -> tuple[Path, str]:
    digest, block = hashlib.sha256(), os.urandom(_BLOCK)
    with path.open("wb") as file:
        for _ in range(size // _BLOCK):
            file.write(block)
            digest.update(block)
    return path, digest.hexdigest()


def _make_ours(emulator: EmulatorProcess, path: Path, sha256: str) -> Contender:
    arguments = [str(emulator.config_path), emulator.url, str(path), sha256]
    return Contender(
        "oci-audit",
        lambda folder: [sys.executable, "-c", _UPLOAD, *arguments, folder.name],
        lambda folder: _take_object(emulator, folder.name, path),
    )


def _make_curl(emulator: EmulatorProcess, curl: str, path: Path) -> Contender:
    namespace = emulator.read_json("tenancy")["namespace"]

    def make_command(folder: Path) -> list[str]:
        target = f"/n/{namespace}/b/{_BUCKET}/o/{folder.name}"
        headers = [part for line in _sign(emulator, target) for part in ("-H", line)]
        return [curl, "--silent", "--fail", *headers, "-T", str(path), emulator.url + target]

    return Contender("curl -T", make_command, lambda folder: _take_object(emulator, folder.name, path))


def _sign(emulator: EmulatorProcess, target: str) -> list[str]:
    """Return the lines of the headers of a signed PUT."""
    import oci.config
    import oci.signer

    signer = oci.signer.Signer.from_config(oci.config.from_file(str(emulator.config_path)))
    headers = {"date": formatdate(time.time(), usegmt=True), "host": emulator.url.removeprefix("http://")}
    request = SimpleNamespace(method="PUT", url=emulator.url + target, path_url=target, headers=headers, body=None)
    signer(request, enforce_content_headers=False)
    return [f"{name}: {value}" for name, value in headers.items()]


def _take_object(emulator: EmulatorProcess, name: str, path: Path) -> None:
    """Check that the object has the file's size, and remove it."""
    query = f"objects?region=us-ashburn-1&bucket={_BUCKET}"
    found = {one["name"]: one["size"] for one in emulator.read_json(query)}
    if found.get(name) != path.stat().st_size:
        raise RunError(f"the object {name} is not there as it should be: {found}")
    request = urllib.request.Request(f"{emulator.url}/_emulator/{query}&name={name}", method="DELETE")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as response:
        response.read()
