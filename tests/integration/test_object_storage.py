"""The client of Oracle's Object Storage against the emulator: conditions, parts, ranges, and everything that fails."""

import asyncio
import hashlib
import os
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from ociaudit.client import object_storage
from ociaudit.client.object_storage import UploadWatch, parse_object_url, read_whole
from ociaudit.client.transport import TransportLimits
from ociaudit.errors import (
    AccessError,
    DiskError,
    ObjectConflict,
    ServiceUnreachable,
    SignInRejected,
    UsageError,
)
from ociaudit.operations.context import open_store
from support.clocks import FastForwardClock
from support.exports import make_tools

BUCKET = "exports"
URL = parse_object_url(f"oci://{BUCKET}/audit.json")
KIB = 1024


@pytest.fixture(autouse=True)
def bucket(emulator):
    """An empty bucket."""
    emulator.create_bucket(BUCKET)
    for one in emulator.list_objects(BUCKET):
        emulator.delete_object(BUCKET, one["name"])


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 64 KiB, so that a small file has several."""
    monkeypatch.setattr(object_storage, "MULTIPART_BYTES", 64 * KIB)
    monkeypatch.setattr(object_storage, "_PART_BYTES", 64 * KIB)


@pytest.fixture
def large(tmp_path) -> Path:
    """A file of five parts."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(4 * 64 * KIB + 1_234))
    return path


def use_store(emulator, work, *, url=URL, **changes):
    """Run a coroutine with a store."""

    async def run():
        async with AsyncExitStack() as stack:
            context = replace(make_tools(emulator), **changes)
            return await work(await stack.enter_async_context(open_store(context, url)))

    return asyncio.run(run())


async def read_all(store, name):
    """Return an object's bytes."""
    facts = await store.head(name)
    return b"".join([data async for data in read_whole(store, name, facts)])


def put(emulator, data, *, replaces=None, name="audit.json", **changes):
    """Put a small object."""
    return use_store(emulator, lambda store: store.put(name, data, replaces=replaces), **changes)


def put_file(emulator, path, *, replaces=None, watch=None, **changes):
    """Put a file."""
    return use_store(
        emulator,
        lambda store: store.put_file("audit.json", path, replaces=replaces, watch=watch or UploadWatch()),
        **changes,
    )


def inject(emulator, operation, fault, *, times=1, skip=0, effect=None, **match):
    """Add a fault."""
    entry = {"operation": operation, "fault": fault, "times": times, "skip": skip, "match": match}
    emulator.faults([entry | ({} if effect is None else {"effect": effect})])


def count_fired(emulator) -> int:
    """Return how often faults have been met."""
    return sum(one["fired"] for one in emulator.fault_states())


def list_names(emulator):
    """Return the names of all objects in the bucket."""
    return [one["name"] for one in emulator.list_objects(BUCKET)]


def test_an_object_is_written_read_listed_and_removed(emulator):
    """What was put is described, read in ranges, listed and deleted, under a name with a space and other letters."""
    name = "a folder/größe#1.json"

    async def work(store):
        assert await store.head(name) is None
        put_facts = await store.put(name, b"0123456789", replaces=None)
        head = await store.head(name)
        part = await store.read(name, start=3, length=4, etag=head.etag)
        names = [one async for one in store.list_names("a ")]
        whole = await read_all(store, name)
        await store.delete(name)
        await store.delete(name)
        return put_facts, head, part, names, whole, await store.head(name)

    put_facts, head, part, names, whole, gone = use_store(emulator, work)
    assert (put_facts.etag, put_facts.md5, put_facts.sha256) == (head.etag, head.md5, head.sha256)
    assert head.sha256 == hashlib.sha256(b"0123456789").hexdigest()
    assert (part, names, whole, gone) == (b"3456", [name], b"0123456789", None)


def test_the_namespace_is_asked_for_once_and_may_be_named(emulator):
    """Without a namespace the tenancy's is read, once; with it, there is no such request."""
    put(emulator, b"x")
    assert [one["operation"] for one in emulator.log()].count("GetNamespace") == 1
    namespace = next(one["namespace"] for one in emulator.log() if one["operation"] == "PutObject")
    emulator.clear_log()
    put(emulator, b"y", name="other", url=replace(URL, namespace=namespace))
    assert [one["operation"] for one in emulator.log()] == ["PutObject"]


def test_a_listing_has_all_its_pages(emulator, monkeypatch):
    """Names beyond the first page of a listing are listed, too."""
    monkeypatch.setattr(object_storage, "_LIST_LIMIT", 2)
    names = [f"p/{number}" for number in range(5)]
    for name in (*names, "q"):
        emulator.write_object(BUCKET, name, b"x")

    async def work(store):
        return [one async for one in store.list_names("p/")]

    assert use_store(emulator, work) == names


def test_nothing_is_overwritten_without_its_entity_tag(emulator):
    """A put of an absent object refuses one that is there, and a replacement one that is not what was seen."""
    first = put(emulator, b"first")
    with pytest.raises(ObjectConflict, match=r"oci://exports.*opc-request-id"):
        put(emulator, b"second")
    second = put(emulator, b"second", replaces=first.etag)
    with pytest.raises(ObjectConflict, match="changed by another program"):
        put(emulator, b"third", replaces=first.etag)
    assert emulator.read_object(BUCKET, "audit.json") == b"second"
    assert second.etag != first.etag


def test_the_same_bytes_again_are_a_success(emulator):
    """An exclusive put finds an object with its own bytes: an earlier put succeeded, whoever learned of it."""
    first = put(emulator, b"same")
    assert put(emulator, b"same").etag == first.etag


@pytest.mark.parametrize("fault", [{"kind": "reset"}, {"kind": "status", "status": 503}, {"kind": "short_body"}])
def test_a_lost_answer_to_a_put_is_found_out(emulator, fault):
    """A put that succeeded and whose answer was lost is read back, and the second try is no conflict."""
    inject(emulator, "PutObject", fault, effect="done")
    facts = put(emulator, b"content")
    assert count_fired(emulator) == 1
    assert facts.etag == emulator.list_objects(BUCKET)[0]["etag"]


def test_a_lost_answer_does_not_hide_another_writer(emulator):
    """After a lost answer the object holds other bytes: that is a conflict and no success."""
    inject(emulator, "PutObject", {"kind": "status", "status": 500})

    class Interloper(FastForwardClock):
        async def sleep(self, seconds):
            await asyncio.to_thread(emulator.write_object, BUCKET, "audit.json", b"another's")

    with pytest.raises(ObjectConflict):
        put(emulator, b"ours", clock=Interloper())
    assert count_fired(emulator) == 1
    assert emulator.read_object(BUCKET, "audit.json") == b"another's"


def test_a_large_file_goes_in_parts(emulator, small_parts, large):
    """A file above the limit is one object of several parts, with the file's bytes and its hash as metadata."""
    sent = []

    class Watch(UploadWatch):
        def on_sent(self, size_bytes):
            sent.append(size_bytes)

    facts = put_file(emulator, large, watch=Watch())
    (one,) = emulator.list_objects(BUCKET)
    assert emulator.read_object(BUCKET, "audit.json") == large.read_bytes()
    assert one["headers"]["opc-meta-sha256"] == hashlib.sha256(large.read_bytes()).hexdigest()
    assert one["md5"] == facts.multipart_md5
    assert facts.multipart_md5.endswith("-5")
    assert sum(sent) == large.stat().st_size
    assert use_store(emulator, lambda store: read_all(store, "audit.json")) == large.read_bytes()


@pytest.mark.parametrize("number", ["1", "3", "5"])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}},
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 503},
        {"kind": "reset"},
        {"kind": "reset_upload", "receivedBytes": 10_000},
        {"kind": "stall", "seconds": 5},
        {"kind": "status", "status": 401, "code": "NotAuthenticated"},
    ],
    ids=lambda fault: f"{fault['kind']}{fault.get('status', '')}",
)
def test_a_part_that_fails_is_sent_again(emulator, small_parts, large, fault, number):
    """Any passing fault of any part costs that part another try, and the object is whole; only a 401 ends it."""
    inject(emulator, "UploadPart", fault, times=2, uploadPartNum=number)
    limits = TransportLimits(silence_seconds=0.3)
    if fault.get("status") == 401:
        with pytest.raises(SignInRejected):
            put_file(emulator, large, limits=limits)
        assert list_names(emulator) == []
    else:
        put_file(emulator, large, limits=limits)
        assert count_fired(emulator) == 2
        assert emulator.read_object(BUCKET, "audit.json") == large.read_bytes()
    assert emulator.count_uploads(BUCKET) == 0


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CommitMultipartUpload"])
def test_a_failed_upload_in_parts_is_aborted(emulator, small_parts, large, operation):
    """An upload that cannot be finished leaves no object and no open upload, and the error has the request's id."""
    inject(emulator, operation, {"kind": "status", "status": 500}, times=None)
    with pytest.raises(ServiceUnreachable, match=r"oci://exports.*opc-request-id"):
        put_file(emulator, large)
    assert count_fired(emulator) >= 8
    assert list_names(emulator) == []
    assert emulator.count_uploads(BUCKET) == 0


@pytest.mark.parametrize("operation", ["UploadPart", "CommitMultipartUpload"])
def test_a_lost_answer_to_a_part_or_a_commit_is_found_out(emulator, small_parts, large, operation):
    """A part may be sent twice, and a commit that succeeded is recognized by what is there."""
    inject(emulator, operation, {"kind": "reset"}, effect="done")
    facts = put_file(emulator, large)
    (one,) = emulator.list_objects(BUCKET)
    assert count_fired(emulator) == 1
    assert one["etag"] == facts.etag
    assert emulator.read_object(BUCKET, "audit.json") == large.read_bytes()
    assert emulator.count_uploads(BUCKET) == 0


def write_during_upload(emulator):
    """Return a watch that writes the object as another program when the upload has begun."""

    class Watch(UploadWatch):
        def on_upload(self, upload_id):
            emulator.write_object(BUCKET, "audit.json", b"another's")

    return Watch()


def test_an_object_that_appears_during_an_upload_stays(emulator, small_parts, large):
    """Another program writes the object while parts are sent: the commit is not even tried, and its bytes stay."""
    with pytest.raises(ObjectConflict, match="is there now"):
        put_file(emulator, large, watch=write_during_upload(emulator))
    assert "CommitMultipartUpload" not in [one["operation"] for one in emulator.log()]
    assert emulator.read_object(BUCKET, "audit.json") == b"another's"
    assert emulator.count_uploads(BUCKET) == 0


def test_a_file_that_shrinks_is_a_disk_error(emulator, small_parts, large):
    """A file that is cut while it is sent stops the upload with the reason, and nothing is visible."""

    class Watch(UploadWatch):
        def on_upload(self, upload_id):
            os.truncate(large, 100)

    with pytest.raises(DiskError, match="shorter"):
        put_file(emulator, large, watch=Watch())
    assert list_names(emulator) == []
    assert emulator.count_uploads(BUCKET) == 0


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429},
        {"kind": "status", "status": 503},
        {"kind": "reset", "afterBytes": 1_000},
        {"kind": "short_body"},
        {"kind": "cut_body"},
        {"kind": "stall", "seconds": 5, "after": "half"},
    ],
    ids=lambda fault: f"{fault['kind']}{fault.get('status', '')}",
)
def test_a_range_that_fails_is_read_again(emulator, monkeypatch, large, fault):
    """Any passing fault of a range costs another try, and the bytes are whole and in order."""
    monkeypatch.setattr(object_storage, "_READ_BYTES", 50_000)
    put_file(emulator, large)
    inject(emulator, "GetObject", fault, times=2, skip=1)
    limits = TransportLimits(silence_seconds=0.3)
    assert use_store(emulator, lambda store: read_all(store, "audit.json"), limits=limits) == large.read_bytes()
    assert count_fired(emulator) == 2


@pytest.mark.parametrize("is_removed", [False, True])
def test_an_object_that_changes_while_it_is_read_is_refused(emulator, monkeypatch, large, is_removed):
    """Ranges of two versions are never mixed: a replaced or removed object is named."""
    monkeypatch.setattr(object_storage, "_READ_BYTES", 50_000)
    put_file(emulator, large)

    async def work(store):
        facts = await store.head("audit.json")
        await store.read("audit.json", start=0, length=10, etag=facts.etag)
        if is_removed:
            await asyncio.to_thread(emulator.delete_object, BUCKET, "audit.json")
        else:
            await asyncio.to_thread(emulator.write_object, BUCKET, "audit.json", b"x" * facts.size_bytes)
        return [data async for data in read_whole(store, "audit.json", facts)]

    with pytest.raises(ObjectConflict, match=r"removed while|changed by another"):
        use_store(emulator, work)


def test_an_empty_file_is_an_object(emulator, tmp_path):
    """A file without bytes is put and read like any other."""
    (tmp_path / "empty").touch()
    put_file(emulator, tmp_path / "empty")
    assert use_store(emulator, lambda store: read_all(store, "audit.json")) == b""


@pytest.mark.parametrize("act", ["head", "put", "list", "delete", "put_file"])
def test_a_bucket_that_is_not_there_is_named(emulator, act, tmp_path):
    """A missing bucket is exit 3 with its name, the region, the policy and the request's id, whatever is done."""
    (tmp_path / "f").write_bytes(b"x")

    async def work(store):
        if act == "list":
            return [one async for one in store.list_names("")]
        if act == "put":
            return await store.put("a", b"x", replaces=None)
        if act == "put_file":
            return await store.put_file("a", tmp_path / "f", replaces=None, watch=UploadWatch())
        return await getattr(store, act)("a")

    with pytest.raises(AccessError, match=r"oci://nowhere@\w+/.*BucketNotFound.*opc-request-id") as caught:
        use_store(emulator, work, url=parse_object_url("oci://nowhere/a"))
    assert "us-ashburn-1" in caught.value.hint
    verb = "read" if act in {"head", "list"} else "manage"
    assert f"to {verb} objects in tenancy where target.bucket.name = 'nowhere'" in caught.value.hint


def test_a_missing_permission_is_named(emulator):
    """A 404 that means no permission is exit 3, with the policy to ask for."""
    fault = {"kind": "status", "status": 404, "code": "NotAuthorizedOrNotFound"}
    inject(emulator, "PutObject", fault, times=None)
    inject(emulator, "HeadObject", fault, times=None)
    with pytest.raises(AccessError) as caught:
        put(emulator, b"x")
    assert "manage objects" in caught.value.hint
    assert count_fired(emulator) >= 1


def test_a_wrong_namespace_names_the_right_one(emulator):
    """The namespace of another tenancy is exit 2, and the hint has the URL's own form with the right one."""
    put(emulator, b"x")
    own = next(one["namespace"] for one in emulator.log() if one["operation"] == "PutObject")
    with pytest.raises(UsageError) as caught:
        put(emulator, b"x", url=replace(URL, namespace="axelsewhere"))
    assert f"oci://{BUCKET}@{own}/" in caught.value.hint


def test_a_commit_whose_condition_the_service_ignores_is_guarded_by_a_look(emulator, small_parts, large):
    """The HEAD before the commit refuses an object that has appeared, without help of the commit's condition."""
    head_at = []

    class Watch(UploadWatch):
        def on_upload(self, upload_id):
            emulator.write_object(BUCKET, "audit.json", b"another's")
            head_at.append(len(emulator.log()))

    with pytest.raises(ObjectConflict):
        put_file(emulator, large, watch=Watch())
    assert "HeadObject" in [one["operation"] for one in emulator.log()[head_at[0] :]]
