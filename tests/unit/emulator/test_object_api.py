"""Object Storage, without a socket: names, conditions, hashes, ranges, listings, multipart uploads, faults."""

import base64
import gc
import hashlib
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from ociaudit_emulator.faults import FaultRequestError
from ociaudit_emulator.http import Reset, ResetUpload, Stall
from support.emulated_service import KEY, SIGNED_HEADERS, EmulatedService


@pytest.fixture
def service():
    """A service with a bucket."""
    return EmulatedService(buckets=("b",))


def name_path(service, rest=""):
    """The path of the bucket, or of something in it."""
    namespace = json.loads(service.get("/n/").body)
    return f"/n/{namespace}/b/b{rest}"


def put(service, name, content, **headers):
    """The response to a put of an object."""
    given_headers = {key.replace("_", "-"): value for key, value in headers.items()}
    return service.upload(name_path(service, f"/o/{quote(name)}"), content, given_headers)


def get(service, name, method="GET", **headers):
    """The response to a GET, HEAD or DELETE of an object, with its content as the body."""
    given_headers = {key.replace("_", "-"): value for key, value in headers.items()}
    return service.send(method, name_path(service, f"/o/{quote(name)}"), headers=given_headers).with_content_as_body()


def list_objects(service, **parameters):
    """The listing of the bucket."""
    return json.loads(service.get(name_path(service, "/o"), **parameters).body)


def start_upload(service, name="big", headers=None, **content):
    """The path of a new multipart upload's parts, with its id; or the response to a refusal."""
    response = service.send("POST", name_path(service, "/u"), {"object": name, **content}, headers)
    if response.status != 200:
        return response
    upload_id = json.loads(response.body)["uploadId"]
    return name_path(service, f"/u/{quote(name)}") + f"?uploadId={upload_id}"


def upload_parts(service, path, *contents):
    """Upload parts in reverse order, and return what a commit names."""
    parts = [
        {"partNum": number, "etag": service.upload(f"{path}&uploadPartNum={number}", content).headers["etag"]}
        for number, content in reversed(list(enumerate(contents, 1)))
    ]
    return parts[::-1]


def read_code(response):
    """The status and the code of an error."""
    return response.status, json.loads(response.body)["code"]


def encode_md5(content):
    """The MD5 of a content as headers hold it."""
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def test_an_object_is_returned_as_it_was_put(service):
    """GET returns the bytes, and GET and HEAD the type, metadata, MD5 and ETag of the put."""
    name = "events/a b/größe+%2F.json"
    written = put(service, name, b"hello", content_type="text/plain", opc_meta_run="7", content_encoding="gzip")
    assert written.headers["opc-content-md5"] == encode_md5(b"hello")
    for method in ("GET", "HEAD"):
        read = get(service, name, method)
        assert (read.status, read.body, read.content_type) == (200, b"hello", "text/plain")
        assert read.headers["etag"] == written.headers["etag"]
        assert read.headers["Content-MD5"] == encode_md5(b"hello")
        assert (read.headers["opc-meta-run"], read.headers["content-encoding"]) == ("7", "gzip")
    assert [one["name"] for one in list_objects(service)["objects"]] == [name]


def test_a_missing_thing_has_the_code_of_its_kind(service):
    """Another namespace, an unknown bucket, object or upload are 404 with Oracle's codes."""
    path = name_path(service)
    assert read_code(service.get("/n/other/b/b")) == (404, "NamespaceNotFound")
    assert read_code(service.get(path + "x/o")) == (404, "BucketNotFound")
    assert read_code(service.upload(path + "x/o/a", b"")) == (404, "BucketNotFound")
    assert read_code(get(service, "a")) == (404, "ObjectNotFound")
    assert read_code(get(service, "a", "DELETE")) == (404, "ObjectNotFound")
    assert read_code(service.upload(path + "/u/a?uploadId=x&uploadPartNum=1", b"")) == (404, "UploadNotFound")
    assert read_code(service.get(path + "/x")) == (404, "NotFound")
    assert read_code(service.send("POST", path + "/o/a", {})) == (405, "MethodNotAllowed")
    assert read_code(service.get("/eu-frankfurt-1" + path)) == (404, "BucketNotFound")
    assert read_code(service.get("/uk-london-1" + path)) == (401, "NotAuthenticated")


def test_if_none_match_creates_only(service):
    """With `If-None-Match: *` the first put succeeds and the second is 412, and changes nothing."""
    assert put(service, "a", b"one", if_none_match="*").status == 200
    assert read_code(put(service, "a", b"two", if_none_match="*")) == (412, "IfNoneMatchFailed")
    assert get(service, "a").body == b"one"
    assert read_code(put(service, "a", b"two", if_none_match="x")) == (400, "InvalidConditionalHeaders")


@pytest.mark.parametrize("quotes", ["", '"'])
def test_if_match_writes_reads_and_deletes_one_version(service, quotes):
    """`If-Match` holds on put, get, head and delete, with and without quotes."""
    first = put(service, "a", b"one").headers["etag"]
    second = put(service, "a", b"two", if_match=f"{quotes}{first}{quotes}").headers["etag"]
    assert second != first
    for response in (
        put(service, "a", b"three", if_match=first),
        put(service, "new", b"three", if_match=first),
        get(service, "a", if_match=first),
        get(service, "a", "HEAD", if_match=first),
        get(service, "a", "DELETE", if_match=first),
    ):
        assert read_code(response) == (412, "IfMatchFailed")
    assert get(service, "a", if_match=second).body == b"two"
    assert get(service, "a", if_none_match=second).status == 304
    assert get(service, "a", "DELETE", if_match=second).status == 204
    assert list_objects(service)["objects"] == []


def test_a_condition_that_fails_meanwhile_fails_the_write(service):
    """A put that was admitted is 412 if another one has created the object while its body arrived."""
    target = name_path(service, "/o/a")
    request = service.make_request(target, headers={"if-none-match": "*"}, method="PUT")
    assert service.assembly.handler.admit(request, service.last_entry) is None
    put(service, "a", b"the other")
    writer = service.assembly.objects.start_blob()
    writer.write(b"late")
    response = service.serve(type(request)(request.method, target, request.headers, blob=writer.finish()))
    assert read_code(response) == (412, "IfNoneMatchFailed")
    assert get(service, "a").body == b"the other"


def test_a_wrong_hash_is_refused(service):
    """A Content-MD5 that does not fit the body is 400, and one that is no MD5 too; nothing is written."""
    assert read_code(put(service, "a", b"x", content_md5=encode_md5(b"y"))) == (400, "UnmatchedContentMD5")
    assert read_code(put(service, "a", b"x", content_md5="eA==")) == (400, "InvalidContentMD5")
    assert read_code(get(service, "a")) == (404, "ObjectNotFound")
    assert put(service, "a", b"x", content_md5=encode_md5(b"x")).status == 200


def test_the_body_of_an_upload_need_not_be_signed_and_is_checked_if_it_is(service):
    """A put without signed body headers is accepted; one with a signed hash must have that hash."""
    target = name_path(service, "/o/a")
    for signed_content, status in ((b"right", 200), (b"wrong", 401)):
        digest = base64.b64encode(hashlib.sha256(signed_content).digest()).decode()
        request = service.make_request(
            target,
            signed=(*SIGNED_HEADERS, "x-content-sha256"),
            headers={"x-content-sha256": digest},
            method="PUT",
            key=KEY,
        )
        writer = service.assembly.objects.start_blob()
        writer.write(b"right")
        response = service.serve(type(request)(request.method, target, request.headers, blob=writer.finish()))
        assert response.status == status
    unsigned = service.make_request(name_path(service, "/u"), method="POST", body=b'{"object":"a"}')
    assert service.serve(unsigned).status == 401


@pytest.mark.parametrize(
    ("text", "status", "body", "content_range"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=7-99", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=a-b", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
    ],
)
def test_a_range_is_part_of_the_object(service, text, status, body, content_range):
    """A byte range is 206 with its bytes and without the whole's MD5, and what is no range is ignored."""
    put(service, "a", b"0123456789")
    response = get(service, "a", range=text)
    assert (response.status, response.body, response.headers.get("Content-Range")) == (status, body, content_range)
    assert ("Content-MD5" in response.headers) == (status == 200)


@pytest.mark.parametrize("text", ["bytes=10-", "bytes=-0", "bytes=5-3"])
def test_a_range_outside_the_object_is_416(service, text):
    """A range that holds no byte is 416 InvalidRange."""
    put(service, "a", b"0123456789")
    assert read_code(get(service, "a", range=text)) == (416, "InvalidRange")


@examples(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.integers(0, 250), st.integers(1, 250))
def test_any_range_of_any_parts_is_that_of_their_bytes(contents, start, length):
    """A range of an object of several parts holds the bytes that the joined parts have there."""
    service = EmulatedService(buckets=("b",))
    path = start_upload(service)
    parts = upload_parts(service, path, *contents)
    assert service.send("POST", path, {"partsToCommit": parts}).status == 200
    whole = b"".join(contents)
    assert get(service, "big").body == whole
    response = get(service, "big", range=f"bytes={start}-{start + length - 1}")
    if start < len(whole):
        assert response.body == whole[start : start + length]
    else:
        assert response.status == 416


def test_a_listing_has_pages_prefixes_and_fields(service):
    """Listings honour prefix, start, end, startAfter, limit, delimiter and fields, in the order of bytes."""
    names = ["a/1", "a/2", "a/b/3", "b", "c/4", "é", "z"]
    for name in reversed(names):
        put(service, name, name.encode())

    def read_names(**parameters):
        return [one["name"] for one in list_objects(service, **parameters)["objects"]]

    assert read_names() == ["a/1", "a/2", "a/b/3", "b", "c/4", "z", "é"]
    assert read_names(prefix="a/") == ["a/1", "a/2", "a/b/3"]
    assert read_names(start="a/2", end="c/4") == ["a/2", "a/b/3", "b"]
    assert read_names(startAfter="a/2", end="b") == ["a/b/3"]
    page = list_objects(service, limit="2")
    assert page["nextStartWith"] == "a/b/3"
    assert "prefixes" not in page
    folders = list_objects(service, delimiter="/")
    assert ([one["name"] for one in folders["objects"]], folders["prefixes"]) == (["b", "z", "é"], ["a/", "c/"])
    inner = list_objects(service, delimiter="/", prefix="a/")
    assert ([one["name"] for one in inner["objects"]], inner["prefixes"]) == (["a/1", "a/2"], ["a/b/"])
    (one,) = list_objects(service, prefix="b", fields="size,MD5,etag,timeCreated")["objects"]
    assert (one["name"], one["size"], one["md5"]) == ("b", 1, encode_md5(b"b"))
    assert one.keys() == {"name", "size", "md5", "etag", "timeCreated"}
    path = name_path(service, "/o")
    assert read_code(service.get(path, fields="colour")) == (400, "InvalidAttributeName")
    assert read_code(service.get(path, limit="0")) == (400, "InvalidLimit")
    assert read_code(service.get(path, delimiter="-")) == (400, "InvalidParameter")


@examples(max_examples=40, deadline=None)
@given(
    st.sets(st.text("ab/", min_size=1, max_size=4), min_size=1, max_size=12),
    st.integers(1, 4),
    st.sampled_from(["", "/"]),
    st.sampled_from(["", "a", "a/"]),
)
def test_the_pages_of_a_listing_hold_each_name_once(names, limit, delimiter, prefix):
    """Following nextStartWith gives every object or its prefix exactly once, whatever the limit."""
    service = EmulatedService(buckets=("b",))
    for name in names:
        put(service, name, b"")
    chosen = {"delimiter": delimiter, "prefix": prefix}
    whole, listed, start = list_objects(service, **chosen), [], ""
    while start is not None:
        page = list_objects(service, limit=str(limit), start=start, **chosen)
        listed += [one["name"] for one in page["objects"]] + page.get("prefixes", [])
        start = page.get("nextStartWith")
    expected = {one["name"] for one in whole["objects"]} | set(whole.get("prefixes", []))
    assert set(listed) == expected
    if not delimiter:
        assert expected == {name for name in names if name.startswith(prefix)}
        assert len(listed) == len(expected)


def test_a_multipart_object_is_its_parts_in_order(service):
    """A committed upload is the parts in the order of their numbers, with the MD5 of their MD5s and its metadata."""
    path = start_upload(service, contentType="text/csv", metadata={"opc-meta-run": "7"}, cacheControl="no-store")
    parts = upload_parts(service, path, b"one", b"two", b"three")
    listed = json.loads(service.get(path).body)
    assert [(one["partNumber"], one["size"], one["md5"]) for one in listed][1] == (2, 3, encode_md5(b"two"))
    assert read_code(get(service, "big")) == (404, "ObjectNotFound")
    commit = service.send("POST", path, {"partsToCommit": parts})
    digest = hashlib.md5(b"".join(hashlib.md5(one).digest() for one in (b"one", b"two", b"three"))).digest()
    assert commit.headers["opc-multipart-md5"] == base64.b64encode(digest).decode() + "-3"
    read = get(service, "big")
    assert (read.body, read.content_type, read.headers["opc-meta-run"]) == (b"onetwothree", "text/csv", "7")
    assert read.headers["cache-control"] == "no-store"
    assert read.headers["opc-multipart-md5"] == commit.headers["opc-multipart-md5"]
    assert "Content-MD5" not in read.headers
    assert read_code(service.send("POST", path, {"partsToCommit": parts})) == (404, "UploadNotFound")


def test_a_commit_names_every_part_once_and_in_order(service):
    """A commit in the wrong order, with an unknown part or etag, or that leaves a part out is 400."""
    path = start_upload(service)
    one, two, three = upload_parts(service, path, b"1", b"2", b"3")

    def commit(parts, **more):
        return service.send("POST", path, {"partsToCommit": parts, **more})

    assert read_code(commit([two, one, three])) == (400, "InvalidUploadPartOrder")
    assert read_code(commit([one, one])) == (400, "InvalidUploadPartOrder")
    assert read_code(commit([one, {**two, "etag": "x"}, three])) == (400, "InvalidUploadPart")
    assert read_code(commit([one, two, three, {"partNum": 4, "etag": "x"}])) == (400, "InvalidUploadPart")
    assert read_code(commit([one, three])) == (400, "InvalidUploadPart")
    assert read_code(commit([])) == (400, "InvalidUploadPart")
    assert read_code(commit("x")) == (400, "InvalidJSON")
    assert read_code(service.upload(path + "&uploadPartNum=0", b"")) == (400, "InvalidUploadPartNumber")
    assert commit([one, three], partsToExclude=[2]).status == 200
    assert get(service, "big").body == b"13"


def test_the_conditions_of_a_multipart_upload_hold_when_it_starts_and_when_it_ends(service):
    """`If-None-Match: *` is checked by create and by commit; an option leaves the commit unconditional."""
    put(service, "big", b"old")
    condition = {"if-none-match": "*"}
    assert read_code(start_upload(service, headers=condition)) == (412, "IfNoneMatchFailed")
    get(service, "big", "DELETE")
    path = start_upload(service, headers=condition)
    content = {"partsToCommit": upload_parts(service, path, b"new")}
    put(service, "big", b"another's")
    assert read_code(service.send("POST", path, content, condition)) == (412, "IfNoneMatchFailed")
    assert get(service, "big").body == b"another's"
    etag = get(service, "big").headers["etag"]
    assert service.send("POST", path, content, {"if-match": etag}).status == 200
    assert get(service, "big").body == b"new"
    lenient = EmulatedService(buckets=("b",), is_commit_unconditional=True)
    path = start_upload(lenient, headers=condition)
    content = {"partsToCommit": upload_parts(lenient, path, b"new")}
    put(lenient, "big", b"another's")
    assert lenient.send("POST", path, content, condition).status == 200


def test_an_aborted_upload_leaves_nothing(service):
    """After an abort neither the upload nor an object of its name exists."""
    path = start_upload(service)
    upload_parts(service, path, b"1")
    uploads = name_path(service, "/u")
    assert [one["object"] for one in json.loads(service.get(uploads).body)] == ["big"]
    assert service.send("DELETE", path).status == 204
    assert json.loads(service.get(uploads).body) == []
    assert read_code(service.send("DELETE", path)) == (404, "UploadNotFound")


def test_lists_of_parts_have_pages(service):
    """Parts are listed in pages that a token leads through."""
    path = start_upload(service)
    upload_parts(service, path, b"1", b"2", b"3")
    first = service.get(path + "&limit=2")
    second = service.get(path + f"&limit=2&page={first.headers['opc-next-page']}")
    assert [one["partNumber"] for one in json.loads(first.body) + json.loads(second.body)] == [1, 2, 3]
    assert "opc-next-page" not in second.headers


def test_buckets_are_created_described_and_deleted(service):
    """A bucket is created once, in its region, described, and deleted when it is empty."""
    path = name_path(service).removesuffix("/b")
    details = {"name": "new", "compartmentId": service.tenancy.id}
    assert service.send("POST", path, details).status == 200
    assert read_code(service.send("POST", path, details)) == (409, "BucketAlreadyExists")
    assert read_code(service.send("POST", path, {**details, "name": "a/b"})) == (400, "InvalidBucketName")
    assert json.loads(service.get(f"{path}/new").body)["compartmentId"] == service.tenancy.id
    assert service.send("HEAD", f"{path}/new").headers["etag"]
    listed = json.loads(service.get(path, compartmentId=service.tenancy.id).body)
    assert [one["name"] for one in listed] == ["b", "new"]
    put(service, "a", b"")
    assert read_code(service.send("DELETE", f"{path}/b")) == (409, "BucketNotEmpty")
    assert service.send("DELETE", f"{path}/new").status == 204
    assert read_code(service.send("DELETE", f"{path}/new")) == (404, "BucketNotFound")


def test_files_go_with_the_last_reference(service):
    """The file of an object that was replaced stays for its readers, and is deleted after them."""
    put(service, "a", b"old")
    reader = service.send("GET", name_path(service, "/o/a"))
    (blob,) = reader.content[0].blobs
    path = blob.path
    del blob
    put(service, "a", b"new")
    assert reader.with_content_as_body().body == b"old"
    del reader
    gc.collect()
    assert not path.exists()
    service.assembly.objects.close()
    assert not path.parent.exists()


WRITES = ["PutObject", "UploadPart", "CreateMultipartUpload", "CommitMultipartUpload", "DeleteObject"]


@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize("effect", ["none", "done"])
@pytest.mark.parametrize(("kind", "delivery"), [("status", None), ("reset", Reset), ("stall", Stall)])
def test_a_fault_prevents_a_write_or_loses_its_answer(service, operation, effect, kind, delivery):
    """With `effect` none a write that fails changed nothing; with done it was done and only its answer is lost."""
    put(service, "gone", b"")
    path = start_upload(service)
    parts = upload_parts(service, path, b"1")
    service.add_fault(kind, operation=operation, effect=effect)
    response = {
        "PutObject": lambda: put(service, "a", b"x"),
        "UploadPart": lambda: service.upload(f"{path}&uploadPartNum=2", b"2"),
        "CreateMultipartUpload": lambda: service.send("POST", name_path(service, "/u"), {"object": "other"}),
        "CommitMultipartUpload": lambda: service.send("POST", path, {"partsToCommit": parts}),
        "DeleteObject": lambda: get(service, "gone", "DELETE"),
    }[operation]()
    assert service.last_entry.fault == kind
    assert response.status == 500 if delivery is None else isinstance(response.delivery, delivery)
    is_done = {
        "PutObject": lambda: get(service, "a").status == 200,
        "UploadPart": lambda: len(json.loads(service.get(path).body)) == 2,
        "CreateMultipartUpload": lambda: len(json.loads(service.get(name_path(service, "/u")).body)) == 2,
        "CommitMultipartUpload": lambda: get(service, "big").status == 200,
        "DeleteObject": lambda: get(service, "gone").status == 404,
    }[operation]()
    assert is_done == (effect == "done")
    assert service.fault_states()[0]["fired"] == 1


def test_a_fault_can_choose_a_part_a_bucket_and_an_object(service):
    """The conditions bucket, object and uploadPartNum choose one part of one upload."""
    path, other = start_upload(service), start_upload(service, "other")
    match = {"bucket": "b", "object": "big", "uploadPartNum": "2"}
    service.add_fault("status", operation="UploadPart", match=match, times=None, options={"status": 503})
    statuses = [
        service.upload(f"{one}&uploadPartNum={number}", b"x").status for one in (path, other) for number in (1, 2)
    ]
    assert statuses == [200, 503, 200, 200]


def test_faults_change_the_bytes_of_an_object(service):
    """Kinds that cut a body apply to the content of GetObject, whose bytes are otherwise sent from files."""
    put(service, "a", b"0123456789")
    service.add_fault("cut_body", operation="GetObject", options={"keptBytes": 4})
    assert get(service, "a").body == b"0123"
    service.add_fault("reset", operation="GetObject", options={"afterBytes": 4})
    response = service.send("GET", name_path(service, "/o/a"))
    assert (response.body, response.delivery, response.content) == (b"0123456789", Reset(4), None)


def test_an_upload_can_be_reset_while_it_arrives(service):
    """The fault `reset_upload` applies to uploads only, before their body has been read."""
    service.add_fault("reset_upload", options={"receivedBytes": 7})
    assert get(service, "a").status == 404
    assert put(service, "a", b"x" * 100).delivery == ResetUpload(7)
    assert get(service, "a").status == 404
    with pytest.raises(FaultRequestError, match="effect"):
        service.add_fault("reset", effect="half")
