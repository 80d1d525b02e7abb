"""Oracle's own clients and the emulator's Object Storage: ObjectStorageClient, UploadManager, `oci os object`."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from support.emulator import Emulator

PROC = Path("/proc")
MEBIBYTE = 1024 * 1024
HEAD = """
import hashlib, os
from oci.object_storage import ObjectStorageClient, UploadManager
from oci.object_storage import models
client = ObjectStorageClient(config, service_endpoint=url, retry_strategy=none)
namespace = client.get_namespace().data

def describe(call):
    try:
        response = call()
    except oci.exceptions.ServiceError as error:
        return [error.status, error.code]
    except oci.exceptions.RequestException:
        return ["lost"]
    return [response.status]
"""


@pytest.fixture(scope="module")
def emulator():
    """An emulator with a bucket."""
    with Emulator("--bucket", "exports") as running:
        yield running


@pytest.fixture
def sdk(clients, emulator):
    """Run a script with the SDK's client for Object Storage; the emulator has no faults afterwards."""
    yield lambda script, *arguments: clients.run_sdk(HEAD + script, *arguments)
    emulator.clear_faults()


def test_the_sdk_puts_gets_lists_and_deletes(sdk):
    """The SDK's client sees what it wrote: content, range, headers, listing, conditions, deletion."""
    result = sdk("""
name = "a folder/größe.json"
put = client.put_object(namespace, "exports", name, b"0123456789", if_none_match="*",
                        opc_meta={"run": "7"}, content_type="application/json")
head = client.head_object(namespace, "exports", name)
part = client.get_object(namespace, "exports", name, range="bytes=3-5")
listed = client.list_objects(namespace, "exports", prefix="a ", fields="name,size,md5,etag,timeCreated").data
print(json.dumps({
    "content": client.get_object(namespace, "exports", name).data.content.decode(),
    "part": [part.status, part.data.content.decode(), part.headers["content-range"]],
    "again": describe(lambda: client.put_object(namespace, "exports", name, b"x", if_none_match="*")),
    "stale": describe(lambda: client.put_object(namespace, "exports", name, b"x", if_match="stale")),
    "matched": describe(lambda: client.get_object(namespace, "exports", name, if_match=put.headers["etag"])),
    "head": [head.headers["content-length"], head.headers["content-type"], head.headers["opc-meta-run"]],
    "same": put.headers["etag"] == head.headers["etag"] == listed.objects[0].etag,
    "md5": put.headers["opc-content-md5"] == head.headers["content-md5"] == listed.objects[0].md5,
    "listed": [[one.name, one.size, one.time_created.year > 2000] for one in listed.objects],
    "missing": describe(lambda: client.get_object(namespace, "exports", "nothing")),
    "no_head": describe(lambda: client.head_object(namespace, "exports", "nothing")),
    "no_bucket": describe(lambda: client.get_bucket(namespace, "nowhere")),
    "no_namespace": describe(lambda: client.get_bucket("elsewhere", "exports")),
    "deleted": describe(lambda: client.delete_object(namespace, "exports", name, if_match=put.headers["etag"])),
    "gone": describe(lambda: client.delete_object(namespace, "exports", name)),
}))
""")
    assert result == {
        "content": "0123456789",
        "part": [206, "345", "bytes 3-5/10"],
        "again": [412, "IfNoneMatchFailed"],
        "stale": [412, "IfMatchFailed"],
        "matched": [200],
        "head": ["10", "application/json", "7"],
        "same": True,
        "md5": True,
        "listed": [["a folder/größe.json", 10, True]],
        "missing": [404, "ObjectNotFound"],
        "no_head": [404, None],
        "no_bucket": [404, "BucketNotFound"],
        "no_namespace": [404, "NamespaceNotFound"],
        "deleted": [204],
        "gone": [404, "ObjectNotFound"],
    }


def test_the_sdk_manages_buckets(sdk):
    """The SDK creates, describes, lists and deletes a bucket."""
    result = sdk("""
details = models.CreateBucketDetails(name="mine", compartment_id=config["tenancy"])
created = client.create_bucket(namespace, details).data
names = [one.name for one in client.list_buckets(namespace, config["tenancy"]).data]
head = client.head_bucket(namespace, "mine").headers["etag"]
client.delete_bucket(namespace, "mine")
meta = client.get_namespace_metadata(namespace).data.namespace
print(json.dumps([created.name, head == created.etag, names, meta == namespace]))
""")
    assert result == ["mine", True, ["exports", "mine"], True]


@pytest.mark.parametrize("how", ["file", "stream"])
def test_the_upload_manager_uploads_in_parts(sdk, emulator, tmp_path, how):
    """UploadManager's parallel parts become one object with the file's bytes, and no upload is left."""
    path = tmp_path / "file"
    content = os.urandom(7 * MEBIBYTE + 12_345)
    path.write_bytes(content)
    result = sdk(
        f"""
manager = UploadManager(client, allow_parallel_uploads=True)
part = {{"part_size": {MEBIBYTE}, "if_none_match": "*"}}
def upload():
    if "{how}" == "file":
        return manager.upload_file(namespace, "exports", "{how}", arguments[0], **part)
    with open(arguments[0], "rb") as stream:
        return manager.upload_stream(namespace, "exports", "{how}", stream, **part)
first = upload()
got = client.get_object(namespace, "exports", "{how}")
digest = hashlib.sha256()
for chunk in got.data.raw.stream({MEBIBYTE}):
    digest.update(chunk)
md5 = got.headers["opc-multipart-md5"]
print(json.dumps([digest.hexdigest(), md5, first.headers["opc-multipart-md5"] == md5, describe(upload)]))
""",
        path,
    )
    digest, md5, is_same, again = result
    assert digest == hashlib.sha256(content).hexdigest()
    assert md5.endswith("-8")
    assert is_same
    assert again == [412, "IfNoneMatchFailed"]
    assert emulator.count_uploads("exports") == 0


def test_a_resumed_upload_sends_what_is_missing(sdk, emulator, tmp_path):
    """After a part that failed, the SDK resumes the upload with the parts it lists, and commits the whole."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 * MEBIBYTE))
    match = {"uploadPartNum": "2", "object": "resumed"}
    entry = {"operation": "UploadPart", "match": match, "times": 5, "fault": {"kind": "status", "status": 503}}
    emulator.faults([entry])
    digest = sdk(
        f"""
manager = UploadManager(client, allow_parallel_uploads=False)
try:
    manager.upload_file(namespace, "exports", "resumed", arguments[0], part_size={MEBIBYTE})
except oci.exceptions.ServiceError as error:
    assert error.status == 503
(upload_id,) = [one.upload_id for one in client.list_multipart_uploads(namespace, "exports").data]
manager.resume_upload_file(namespace, "exports", "resumed", arguments[0], upload_id, part_size={MEBIBYTE})
print(json.dumps(hashlib.sha256(client.get_object(namespace, "exports", "resumed").data.content).hexdigest()))
""",
        path,
    )
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [one["fired"] for one in emulator.fault_states()] == [5]


def test_a_lost_answer_leaves_the_object(sdk, emulator):
    """A reset with effect done loses the answer of a put that the store carried out; with none it is not there."""
    for effect, name in (("done", "written"), ("none", "unwritten")):
        match = {"object": name}
        emulator.faults([{"operation": "PutObject", "match": match, "effect": effect, "fault": {"kind": "reset"}}])
    result = sdk("""
lost = [describe(lambda: client.put_object(namespace, "exports", name, b"x", if_none_match="*"))
        for name in ("written", "unwritten")]
found = [describe(lambda: client.get_object(namespace, "exports", name)) for name in ("written", "unwritten")]
print(json.dumps([lost, found]))
""")
    assert result == [[["lost"], ["lost"]], [[200], [404, "ObjectNotFound"]]]
    assert [one["fired"] for one in emulator.fault_states()] == [1, 1]


def test_an_upload_that_is_reset_half_way_leaves_nothing(sdk, emulator):
    """A connection that is reset while the body arrives writes nothing, and the log says how much arrived."""
    emulator.clear_log()
    fault = {"kind": "reset_upload", "receivedBytes": 300_000}
    emulator.faults([{"operation": "PutObject", "fault": fault}])
    result = sdk("""
print(json.dumps([describe(lambda: client.put_object(namespace, "exports", "half", os.urandom(2_000_000))),
                  describe(lambda: client.get_object(namespace, "exports", "half"))]))
""")
    assert result == [["lost"], [404, "ObjectNotFound"]]
    (entry,) = [one for one in emulator.log() if one["operation"] == "PutObject"]
    assert (entry["receivedBytes"], entry["fault"], entry["delivery"]) == (300_000, "reset_upload", "ResetUpload")


def test_memory_stays_flat_with_large_objects(sdk, emulator):
    """An object of 200 MB in one put is received and sent with less than 150 MB of memory."""
    result = sdk("""
size = 200_000_000
with open("/dev/zero", "rb") as zero:
    class Zeros:
        left = size
        def read(self, count=-1):
            count = min(self.left, 1 << 20 if count < 0 else count)
            self.left -= count
            return zero.read(count)
        def __len__(self):
            return self.left
    client.put_object(namespace, "exports", "large", Zeros(), content_length=str(size))
got = client.get_object(namespace, "exports", "large")
print(json.dumps([sum(len(chunk) for chunk in got.data.raw.stream(1 << 20)), got.headers["content-length"]]))
""")
    assert result == [200_000_000, "200000000"]
    if PROC.is_dir():
        lines = (PROC / str(emulator.process_id) / "status").read_text(encoding="ascii").splitlines()
        peak = dict(line.split(":", 1) for line in lines)["VmHWM"]
        assert int(peak.split()[0]) / 1024 < 150


def test_the_cli_puts_gets_lists_and_deletes(clients, emulator, tmp_path):
    """`oci os` reads the namespace, puts a file once, in parts too, gets it back, lists and deletes it."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(12 * MEBIBYTE))
    names = ("--bucket-name", "exports", "--name", "cli/file.json")
    assert clients.read_cli("os", "ns", "get").startswith("ax")
    assert clients.read_cli("os", "bucket", "get", "--bucket-name", "exports")["name"] == "exports"
    clients.run_cli("os", "object", "put", *names, "--file", source, "--part-size", "10")
    assert emulator.list_objects("exports")[0]["md5"].endswith("-2")
    refused = clients.run_cli("os", "object", "put", *names, "--file", source, "--if-none-match", "*", check=False)
    assert refused.returncode != 0
    clients.run_cli("os", "object", "get", *names, "--file", target)
    assert target.read_bytes() == source.read_bytes()
    clients.run_cli("os", "object", "put", *names, "--file", source, "--force", "--no-multipart")
    listed = clients.read_cli("os", "object", "list", "--bucket-name", "exports", "--prefix", "cli/")
    assert [(one["name"], one["size"]) for one in listed] == [("cli/file.json", 12 * MEBIBYTE)]
    assert json.loads(clients.run_cli("os", "object", "head", *names).stdout)["content-length"] == str(12 * MEBIBYTE)
    clients.run_cli("os", "object", "delete", *names, "--force")
    assert "cli/file.json" not in [one["name"] for one in emulator.list_objects("exports")]


def test_nothing_stays_on_disk(tmp_path, monkeypatch):
    """The folder of the contents is in the temporary folder, private, and gone when the emulator has ended."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Emulator("--bucket", "b", write_config=False) as emulator:
        emulator.write_object("b", "a", b"content")
        (folder,) = tmp_path.glob("emulator-objects-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert [file.stat().st_mode & 0o777 for file in folder.iterdir()] == [0o600]
        assert emulator.read_object("b", "a") == b"content"
    assert not folder.exists()
