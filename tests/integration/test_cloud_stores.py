"""S3 by moto's server: exports, inputs and archives at s3:// URLs."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import obstore
import pytest

from ociaudit.client import object_storage
from ociaudit.client.object_storage import CloudStore, UploadWatch, parse_object_url, read_whole
from ociaudit.errors import AccessError, ObjectConflict, UsageError
from support.emulator import Emulator
from support.exports import point_at
from support.kill_at_call import KillableCommand
from support.processes import make_environment
from support.store_stands import open_stand

pytestmark = pytest.mark.timeout(600)
FLAGS = ("--retention-days", "36500", "--events-per-day", "100", "--now", "2025-06-20T12:00:00Z")
NAME = "2025/größe #1.json"


def send(method, url, body=None):
    """Send an unsigned request, which moto accepts."""
    with urllib.request.urlopen(urllib.request.Request(url, data=body, method=method), timeout=10) as response:
        return response.read()


@pytest.fixture(scope="module")
def endpoint():
    """Moto's server as a process, with a bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError):
                send("GET", f"{url}/moto-api/data.json")
                break
            time.sleep(0.1)
        send("PUT", f"{url}/exports")
        yield url
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def variables(endpoint):
    """The variables that lead obstore to the server."""
    return {
        "AWS_ENDPOINT": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }


@pytest.fixture
def store(variables, monkeypatch):
    """A store for the bucket, in this process."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return CloudStore(parse_object_url("s3://exports/x"))


def run(work):
    """Run a coroutine."""
    return asyncio.run(work())


async def read_all(store, name):
    """Return an object's bytes."""
    return b"".join([data async for data in read_whole(store, name, await store.head(name))])


def test_an_object_is_written_read_listed_and_removed(store):
    """A store of another provider does what Oracle's does: conditions, hashes, ranges, listing, removal."""

    async def work():
        assert await store.head(NAME) is None
        first = await store.put(NAME, b"0123456789", replaces=None)
        assert (await store.put(NAME, b"0123456789", replaces=None)).sha256 == first.sha256
        with pytest.raises(ObjectConflict, match="s3://exports/2025"):
            await store.put(NAME, b"other", replaces=None)
        second = await store.put(NAME, b"9876543210", replaces=first.etag)
        with pytest.raises(ObjectConflict):
            await store.put(NAME, b"third", replaces=first.etag)
        with pytest.raises(ObjectConflict):
            await store.read(NAME, start=0, length=4, etag=first.etag)
        assert await store.read(NAME, start=2, length=3, etag=second.etag) == b"765"
        assert [name async for name in store.list_names("2025/")] == [NAME]
        await store.delete(NAME)
        await store.delete(NAME)
        return await store.head(NAME)

    assert run(work) is None


def test_a_large_file_goes_in_parts(store, tmp_path, monkeypatch):
    """A file above the limit arrives whole, with its hash, and is refused where an object is already."""
    monkeypatch.setattr(object_storage, "MULTIPART_BYTES", 1_000_000)
    monkeypatch.setattr(object_storage, "_PART_BYTES", 5 * 1024 * 1024)
    path = tmp_path / "large"
    path.write_bytes(os.urandom(12_000_000))

    async def work():
        facts = await store.put_file("large", path, replaces=None, watch=UploadWatch())
        assert facts.sha256 == object_storage.hash_file(path)
        assert await read_all(store, "large") == path.read_bytes()
        path.write_bytes(b"x" * 12_000_000)
        with pytest.raises(ObjectConflict):
            await store.put_file("large", path, replaces=None, watch=UploadWatch())
        await store.delete("large")

    run(work)


def test_a_bucket_that_is_not_there_is_named(variables, monkeypatch):
    """A missing bucket is exit 3 with the URL, and no line of the library's debugging."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    other = CloudStore(parse_object_url("s3://nowhere/x"))
    with pytest.raises(AccessError, match="s3://nowhere/a") as caught:
        run(lambda: other.put("a", b"x", replaces=None))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_missing_keys_are_named(monkeypatch, scheme):
    """Without keys obstore asks the machine's metadata service; the error names the variables to set instead."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    failure = obstore.exceptions.GenericError("Error performing PUT http://169.254.169.254/latest/api/token in 1ms")

    async def refuse(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(obstore, "get_async", refuse)
    store = CloudStore(parse_object_url(f"{scheme}://bucket/x"))
    with pytest.raises(AccessError, match="no keys") as caught:
        run(lambda: store.head("x"))
    assert caught.value.hint.startswith("set ")


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_missing_package_is_named(monkeypatch, scheme):
    """Without obstore the error names the extra to install."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError) as caught:
        CloudStore(parse_object_url(f"{scheme}://bucket/x"))
    assert "oci-audit-streamer[cloud]" in caught.value.hint


def test_exports_inputs_and_archives_at_s3(variables, tmp_path):
    """An export, its verification, a conversion without a profile, and an archive at s3:// URLs."""
    with (
        Emulator(*FLAGS, "--bucket", "exports") as emulator,
        KillableCommand() as command,
        open_stand(emulator, command, tmp_path) as stand,
    ):

        def use(*arguments):
            environment = make_environment(stand.folder, **point_at(emulator), **variables)
            return stand.command(arguments, cwd=stand.folder, variables=environment)

        url = "s3://exports/a/audit.json"
        exported = use(*stand.list_arguments(output=url))
        assert exported.status == 0, exported.stderr
        assert use(*stand.list_arguments(output=url)).status == 0
        assert use("verify", url).status == 0
        converted = use("convert", url, "-o", "s3://exports/a/audit.ndjson")
        assert converted.status == 0, converted.stderr
        count = int(converted.stderr.partition(": ")[2].split()[0].replace(",", ""))
        archive = "s3://exports/archive"
        sync = ("sync", archive, "--start", "2025-06-18", "--region", "us-ashburn-1", "--waive", "investigations")
        synced = use(*sync, "--config-file", str(emulator.config_path))
        assert synced.status == 0, synced.stderr
        query = use("query", archive, "SELECT count(*) AS n FROM events", "--format", "json")
        assert query.status == 0, query.stderr
        assert json.loads(query.stdout)[0]["n"] > 0
        assert count > 0
        assert use("verify", archive).status == 0
