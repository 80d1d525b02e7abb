"""The Object Storage service: namespace, buckets, objects, ranges, listings and multipart uploads.

Error codes are those that the service is known to return. Where no source settles an answer, an option chooses it.

Invariants:
- a condition is checked twice: before the body is received, and again in the instant in which the object is written;
- a request that fails changes nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ociaudit_emulator.http import (
    NEXT_PAGE_HEADER,
    ApiCall,
    ApiError,
    Operation,
    ServerResponse,
    json_response,
    missing_parameter,
)
from ociaudit_emulator.object_store import (
    Blob,
    Bucket,
    ByteRange,
    ObjectStore,
    Part,
    StoredObject,
    Upload,
    encode_md5,
    make_etag,
)
from ociaudit_emulator.randomness import make_hex
from ociaudit_emulator.tenancy import Tenancy
from ociaudit_emulator.time_formats import format_http_date, format_time_ms

UPLOADS = frozenset({Operation.PUT_OBJECT, Operation.UPLOAD_PART})
WRITES = UPLOADS | {
    Operation.CREATE_BUCKET,
    Operation.DELETE_BUCKET,
    Operation.DELETE_OBJECT,
    Operation.CREATE_MULTIPART_UPLOAD,
    Operation.COMMIT_MULTIPART_UPLOAD,
    Operation.ABORT_MULTIPART_UPLOAD,
}
OBJECT_OPERATIONS = WRITES | {
    Operation.GET_NAMESPACE,
    Operation.GET_NAMESPACE_METADATA,
    Operation.LIST_BUCKETS,
    Operation.GET_BUCKET,
    Operation.HEAD_BUCKET,
    Operation.LIST_OBJECTS,
    Operation.GET_OBJECT,
    Operation.HEAD_OBJECT,
    Operation.LIST_MULTIPART_UPLOADS,
    Operation.LIST_MULTIPART_UPLOAD_PARTS,
}
_MAX_LIMIT = 1000
_MAX_PART_NUMBER = 10_000
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{1,256}")
_KEPT_HEADERS = ("content-type", "content-encoding", "content-language", "content-disposition", "cache-control")
_META = "opc-meta-"
_DEFAULT_TYPE = "application/octet-stream"
_FIELDS = ("name", "size", "etag", "md5", "timeCreated", "timeModified", "storageTier", "archivalState")
_FIELD_BY_LOWER = {name.lower(): name for name in _FIELDS}


def make_namespace(tenancy: Tenancy) -> str:
    """Return the tenancy's namespace, which looks like a real one and depends only on the tenancy."""
    return f"ax{make_hex(10, tenancy.id, 'namespace')}"


@dataclass(frozen=True, slots=True)
class ObjectRequest:
    """A request to Object Storage: the call, its headers in lower case, its JSON body, and its received content."""

    call: ApiCall
    headers: Mapping[str, str]
    body: bytes = b""
    blob: Blob | None = None

    def read_json(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises: ApiError (400).
        """
        try:
            content = json.loads(self.body)
        except ValueError as error:
            raise ApiError(400, "InvalidJSON", "The body is not valid JSON.") from error
        if not isinstance(content, dict):
            raise ApiError(400, "InvalidJSON", "The body is not a JSON object.")
        return content


class ObjectApi:
    """The operations of Object Storage."""

    def __init__(self, tenancy: Tenancy, store: ObjectStore, *, is_commit_unconditional: bool) -> None:
        """Keep the collaborators; an unconditional commit ignores its conditions, as one report says Oracle's does."""
        self.namespace = make_namespace(tenancy)
        self._tenancy = tenancy
        self._store = store
        self._is_commit_unconditional = is_commit_unconditional
        self._run: Mapping[Operation, Callable[[ObjectRequest], ServerResponse]] = {
            Operation.GET_NAMESPACE: lambda _request: json_response(self.namespace),
            Operation.GET_NAMESPACE_METADATA: self._get_namespace_metadata,
            Operation.LIST_BUCKETS: self._list_buckets,
            Operation.CREATE_BUCKET: self._create_bucket,
            Operation.GET_BUCKET: self._get_bucket,
            Operation.HEAD_BUCKET: self._head_bucket,
            Operation.DELETE_BUCKET: self._delete_bucket,
            Operation.LIST_OBJECTS: self._list_objects,
            Operation.PUT_OBJECT: self._put_object,
            Operation.GET_OBJECT: self._get_object,
            Operation.HEAD_OBJECT: self._get_object,
            Operation.DELETE_OBJECT: self._delete_object,
            Operation.CREATE_MULTIPART_UPLOAD: self._create_upload,
            Operation.UPLOAD_PART: self._upload_part,
            Operation.LIST_MULTIPART_UPLOADS: self._list_uploads,
            Operation.LIST_MULTIPART_UPLOAD_PARTS: self._list_parts,
            Operation.COMMIT_MULTIPART_UPLOAD: self._commit_upload,
            Operation.ABORT_MULTIPART_UPLOAD: self._abort_upload,
        }

    def admit(self, request: ObjectRequest) -> None:
        """Check everything about an upload that does not need its body.

        Raises: ApiError.
        """
        self._check_namespace(request.call)
        bucket = self._find_bucket(request.call)
        if request.call.operation is Operation.UPLOAD_PART:
            self._find_upload(bucket, request.call)
            _read_part_number(request.call)
        else:
            _check_write_conditions(request.headers, bucket.objects.get(request.call.object_name))
        _read_md5(request.headers)

    def run(self, request: ObjectRequest) -> ServerResponse:
        """Return the response to a request.

        Raises: ApiError.
        """
        self._check_namespace(request.call)
        return self._run[request.call.operation](request)

    def _check_namespace(self, call: ApiCall) -> None:
        """Reject another tenancy's namespace."""
        if call.namespace not in {"", self.namespace}:
            text = (
                "You do not have authorization to perform this request, or the requested resource could not be found."
            )
            raise ApiError(404, "NamespaceNotFound", text)

    def _find_bucket(self, call: ApiCall) -> Bucket:
        """Return the bucket of a call.

        Raises: ApiError (404).
        """
        bucket = self._store.find_bucket(call.region, call.bucket)
        if bucket is None:
            text = (
                f"Either the bucket named '{call.bucket}' does not exist in the namespace '{self.namespace}' "
                "or you are not authorized to access it"
            )
            raise ApiError(404, "BucketNotFound", text)
        return bucket

    def _find_object(self, bucket: Bucket, call: ApiCall) -> StoredObject:
        """Return the object of a call.

        Raises: ApiError (404).
        """
        found = bucket.objects.get(call.object_name)
        if found is None:
            text = (
                f"The object '{call.object_name}' was not found in the bucket '{bucket.name}' "
                f"in the namespace '{self.namespace}'"
            )
            raise ApiError(404, "ObjectNotFound", text)
        return found

    def _find_upload(self, bucket: Bucket, call: ApiCall) -> Upload:
        """Return the upload of a call.

        Raises: ApiError (400, 404).
        """
        upload_id = call.parameters.get("uploadId")
        if not upload_id:
            raise missing_parameter("uploadId")
        upload = bucket.uploads.get(upload_id)
        if upload is None or upload.name != call.object_name:
            raise ApiError(404, "UploadNotFound", f"There is no multipart upload {upload_id} of '{call.object_name}'.")
        return upload

    # Namespace and buckets.

    def _get_namespace_metadata(self, _request: ObjectRequest) -> ServerResponse:
        root = self._tenancy.id
        defaults = {"defaultS3CompartmentId": root, "defaultSwiftCompartmentId": root}
        return json_response({"namespace": self.namespace, **defaults})

    def _list_buckets(self, request: ObjectRequest) -> ServerResponse:
        """Return the buckets of a compartment, all on one page."""
        compartment_id = request.call.require("compartmentId")
        found = [one for one in self._store.list_buckets(request.call.region) if one.compartment_id == compartment_id]
        return json_response([self._describe_bucket(one) for one in found])

    def _create_bucket(self, request: ObjectRequest) -> ServerResponse:
        """Add a bucket."""
        content = request.read_json()
        name, compartment_id = content.get("name"), content.get("compartmentId")
        if not isinstance(name, str) or not _BUCKET_NAME.fullmatch(name):
            text = "The bucket name can contain letters, digits, dashes, underscores and periods only."
            raise ApiError(400, "InvalidBucketName", text)
        if compartment_id not in self._tenancy.compartment_by_id:
            raise ApiError(404, "CompartmentIdNotFound", "The compartment was not found.")
        if self._store.find_bucket(request.call.region, name) is not None:
            raise ApiError(409, "BucketAlreadyExists", f"The bucket '{name}' already exists in this namespace.")
        bucket = self._store.create_bucket(request.call.region, name, str(compartment_id))
        return json_response(self._describe_bucket(bucket)).with_header("etag", bucket.etag)

    def _get_bucket(self, request: ObjectRequest) -> ServerResponse:
        bucket = self._find_bucket(request.call)
        return json_response(self._describe_bucket(bucket)).with_header("etag", bucket.etag)

    def _head_bucket(self, request: ObjectRequest) -> ServerResponse:
        return ServerResponse(b"", headers={"etag": self._find_bucket(request.call).etag})

    def _delete_bucket(self, request: ObjectRequest) -> ServerResponse:
        """Remove an empty bucket."""
        bucket = self._find_bucket(request.call)
        if bucket.objects or bucket.uploads:
            raise ApiError(409, "BucketNotEmpty", f"The bucket '{bucket.name}' is not empty. Delete its objects first.")
        self._store.delete_bucket(request.call.region, bucket.name)
        return ServerResponse(b"", 204)

    def _describe_bucket(self, bucket: Bucket) -> dict[str, object]:
        """Return a bucket as the service's JSON."""
        return {
            "namespace": self.namespace,
            "name": bucket.name,
            "compartmentId": bucket.compartment_id,
            "createdBy": self._tenancy.config_user.id,
            "timeCreated": format_time_ms(bucket.created_ms),
            "etag": bucket.etag,
            "metadata": {},
            "publicAccessType": "NoPublicAccess",
            "storageTier": "Standard",
            "objectEventsEnabled": False,
            "freeformTags": {},
            "definedTags": {},
            "versioning": "Disabled",
            "isReadOnly": False,
            "autoTiering": "Disabled",
        }

    # Objects.

    def _list_objects(self, request: ObjectRequest) -> ServerResponse:
        """Return a page of the objects whose names match, and their common prefixes before the delimiter."""
        call = request.call
        bucket = self._find_bucket(call)
        fields = _read_fields(call.parameters.get("fields", "name"))
        limit = _read_limit(call)
        delimiter = call.parameters.get("delimiter", "")
        if delimiter not in {"", "/"}:
            raise ApiError(400, "InvalidParameter", "Only '/' is a supported delimiter.")
        prefix, end = call.parameters.get("prefix", "").encode(), call.parameters.get("end", "").encode()
        start = max(prefix, call.parameters.get("start", "").encode())
        if "startAfter" in call.parameters:
            start = max(start, call.parameters["startAfter"].encode() + b"\0")
        objects: list[dict[str, object]] = []
        prefixes: dict[str, None] = {}
        following = None
        for raw in bucket.list_names(start):
            if not raw.startswith(prefix) or (end and raw >= end):
                break
            name, at = raw.decode(), raw.find(b"/", len(prefix)) if delimiter else -1
            folder = raw[: at + 1].decode() if at >= 0 else ""
            if folder in prefixes:
                continue
            if len(objects) + len(prefixes) == limit:
                following = name
                break
            if folder:
                prefixes[folder] = None
            else:
                objects.append(_describe_object(bucket.objects[name], fields))
        content: dict[str, object] = {"objects": objects}
        if delimiter:
            content["prefixes"] = list(prefixes)
        if following is not None:
            content["nextStartWith"] = following
        return json_response(content)

    def _put_object(self, request: ObjectRequest) -> ServerResponse:
        """Write an object whose content has been received."""
        bucket = self._find_bucket(request.call)
        _check_write_conditions(request.headers, bucket.objects.get(request.call.object_name))
        blob = _take_blob(request)
        one = self._store.make_object(request.call.object_name, blob, _read_kept_headers(request.headers))
        bucket.put(one)
        return ServerResponse(b"", headers=_describe_write(one))

    def _get_object(self, request: ObjectRequest) -> ServerResponse:
        """Return an object, or a range of it, if the conditions hold; for HEAD the server sends no content."""
        one = self._find_object(self._find_bucket(request.call), request.call)
        _check_if_match(request.headers, one)
        headers = _describe_headers(one)
        if _strip_quotes(request.headers.get("if-none-match")) == one.etag:
            return ServerResponse(b"", 304, headers)
        content_type = one.headers.get("content-type", _DEFAULT_TYPE)
        text = request.headers.get("range", "")
        span = _read_range(text, one.size)
        if span is None:
            whole = ByteRange(0, one.size)
            return ServerResponse(b"", headers=headers, content_type=content_type, content=(one, whole))
        headers["Content-Range"] = f"bytes {span.start}-{span.start + span.length - 1}/{one.size}"
        # The hash of the whole would not match the part.
        headers.pop("Content-MD5", None)
        return ServerResponse(b"", 206, headers, content_type, content=(one, span))

    def _delete_object(self, request: ObjectRequest) -> ServerResponse:
        bucket = self._find_bucket(request.call)
        one = self._find_object(bucket, request.call)
        _check_if_match(request.headers, one)
        bucket.delete(one.name)
        return ServerResponse(b"", 204)

    # Multipart uploads.

    def _create_upload(self, request: ObjectRequest) -> ServerResponse:
        """Start an upload, if the conditions hold now."""
        bucket = self._find_bucket(request.call)
        content = request.read_json()
        name = content.get("object")
        if not isinstance(name, str) or not name:
            raise ApiError(400, "MissingObjectName", "The body does not name an object.")
        _check_write_conditions(request.headers, bucket.objects.get(name))
        metadata = content.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise ApiError(400, "InvalidMetadata", "The metadata is not a JSON object.")
        given = {header: content.get(_camel_case(header)) for header in _KEPT_HEADERS}
        headers = {key: str(value) for key, value in given.items() if value is not None}
        headers |= {_META + key.lower().removeprefix(_META): str(value) for key, value in metadata.items()}
        return json_response(self._describe_upload(bucket, self._store.start_upload(bucket, name, headers)))

    def _upload_part(self, request: ObjectRequest) -> ServerResponse:
        """Add a part, or replace the one with its number."""
        upload = self._find_upload(self._find_bucket(request.call), request.call)
        number = _read_part_number(request.call)
        part = Part(number, _take_blob(request), make_etag())
        upload.parts[number] = part
        return ServerResponse(b"", headers={"etag": part.etag, "opc-content-md5": encode_md5(part.blob.md5)})

    def _list_uploads(self, request: ObjectRequest) -> ServerResponse:
        bucket = self._find_bucket(request.call)
        return _page(request.call, [self._describe_upload(bucket, one) for one in bucket.uploads.values()])

    def _list_parts(self, request: ObjectRequest) -> ServerResponse:
        upload = self._find_upload(self._find_bucket(request.call), request.call)
        return _page(
            request.call,
            [
                {"partNumber": part.number, "etag": part.etag, "md5": encode_md5(part.blob.md5), "size": part.blob.size}
                for part in sorted(upload.parts.values(), key=lambda one: one.number)
            ],
        )

    def _commit_upload(self, request: ObjectRequest) -> ServerResponse:
        """Make the object of the parts named, if the conditions hold now."""
        bucket = self._find_bucket(request.call)
        upload = self._find_upload(bucket, request.call)
        parts = _choose_parts(upload, request.read_json())
        if not self._is_commit_unconditional:
            _check_write_conditions(request.headers, bucket.objects.get(upload.name))
        one = self._store.join_parts(upload, parts)
        bucket.put(one)
        del bucket.uploads[upload.id]
        return ServerResponse(b"", headers=_describe_write(one))

    def _abort_upload(self, request: ObjectRequest) -> ServerResponse:
        bucket = self._find_bucket(request.call)
        del bucket.uploads[self._find_upload(bucket, request.call).id]
        return ServerResponse(b"", 204)

    def _describe_upload(self, bucket: Bucket, upload: Upload) -> dict[str, object]:
        """Return an upload as the service's JSON."""
        return {
            "namespace": self.namespace,
            "bucket": bucket.name,
            "object": upload.name,
            "uploadId": upload.id,
            "timeCreated": format_time_ms(upload.created_ms),
            "storageTier": "Standard",
        }


def _strip_quotes(etag: str | None) -> str | None:
    """Return an entity tag without the quotes that HTTP allows around it."""
    return None if etag is None else etag.strip('"')


def _check_write_conditions(headers: Mapping[str, str], existing: StoredObject | None) -> None:
    """Check `If-None-Match: *` and `If-Match` of a write.

    Raises: ApiError (400, 412).
    """
    none_match = headers.get("if-none-match")
    if none_match is not None and none_match != "*":
        raise ApiError(400, "InvalidConditionalHeaders", "The If-None-Match header of a write can only be '*'.")
    if none_match is not None and existing is not None:
        text = "The If-None-Match header is '*' but there is an existing entity"
        raise ApiError(412, "IfNoneMatchFailed", text)
    _check_if_match(headers, existing)


def _check_if_match(headers: Mapping[str, str], existing: StoredObject | None) -> None:
    """Check `If-Match`.

    Raises: ApiError (412).
    """
    wanted = _strip_quotes(headers.get("if-match"))
    if wanted is None or (existing is not None and wanted in {"*", existing.etag}):
        return
    found = "there is no existing entity" if existing is None else f"the entity has the ETag '{existing.etag}'"
    raise ApiError(412, "IfMatchFailed", f"The If-Match header is '{wanted}' but {found}")


def _read_md5(headers: Mapping[str, str]) -> bytes | None:
    """Return the MD5 that a client states.

    Raises: ApiError (400).
    """
    text = headers.get("content-md5")
    if text is None:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise ApiError(400, "InvalidContentMD5", "The Content-MD5 header is not the base64 of 16 bytes.")
    return digest


def _take_blob(request: ObjectRequest) -> Blob:
    """Return the received content, after a check of its MD5.

    Raises: ApiError (400, 411).
    """
    if request.blob is None:
        raise ApiError(411, "ContentLengthRequired", "The request has no body with a Content-Length.")
    stated = _read_md5(request.headers)
    if stated is not None and stated != request.blob.md5:
        text = (
            f"The computed MD5 of the request body ({encode_md5(request.blob.md5)}) does not match "
            f"the Content-MD5 header ({encode_md5(stated)})"
        )
        raise ApiError(400, "UnmatchedContentMD5", text)
    return request.blob


def _read_kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a put that belong to the object."""
    return {name: value for name, value in headers.items() if name in _KEPT_HEADERS or name.startswith(_META)}


def _describe_write(one: StoredObject) -> dict[str, str]:
    """Return the headers of the response to a write."""
    md5 = "opc-multipart-md5" if one.is_multipart else "opc-content-md5"
    return {"etag": one.etag, md5: one.md5, "last-modified": format_http_date(one.created_ms // 1000)}


def _describe_headers(one: StoredObject) -> dict[str, str]:
    """Return the headers of an object, except for its length and its type."""
    return {
        "etag": one.etag,
        "opc-multipart-md5" if one.is_multipart else "Content-MD5": one.md5,
        "last-modified": format_http_date(one.created_ms // 1000),
        "Accept-Ranges": "bytes",
        "storage-tier": "Standard",
        **{name: value for name, value in one.headers.items() if name != "content-type"},
    }


def _describe_object(one: StoredObject, fields: Sequence[str]) -> dict[str, object]:
    """Return the fields of an object in a listing; the name is always among them."""
    values: dict[str, object] = {
        "name": one.name,
        "size": one.size,
        "etag": one.etag,
        "md5": one.md5,
        "timeCreated": format_time_ms(one.created_ms),
        "timeModified": format_time_ms(one.created_ms),
        "storageTier": "Standard",
        "archivalState": None,
    }
    return {name: values[name] for name in ("name", *fields)}


def _read_range(text: str, size: int) -> ByteRange | None:
    """Return the range of a header; None without one, and for a form that RFC 9110 says to ignore.

    Raises: ApiError (416).
    """
    found = _RANGE.fullmatch(text)
    if found is None or found.group() == "bytes=-":
        return None
    if not found[1]:
        start, end = max(size - int(found[2]), 0), size
    else:
        start, end = int(found[1]), min(int(found[2] or size), size - 1) + 1
    if start >= end:
        raise ApiError(416, "InvalidRange", f"The range '{text}' is outside the object, which has {size} bytes.")
    return ByteRange(start, end - start)


def _read_fields(text: str) -> list[str]:
    """Return the field names of a listing.

    Raises: ApiError (400).
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in _FIELD_BY_LOWER]
    if unknown:
        raise ApiError(400, "InvalidAttributeName", f"'{unknown[0]}' is not one of {', '.join(_FIELDS)}.")
    return [_FIELD_BY_LOWER[name] for name in names]


def _read_limit(call: ApiCall) -> int:
    """Return the largest number of items on a page; more than 1,000 are not given.

    Raises: ApiError (400).
    """
    text = call.parameters.get("limit", str(_MAX_LIMIT))
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise ApiError(400, "InvalidLimit", "The limit must be a number from 1.")
    return min(int(text), _MAX_LIMIT)


def _page(call: ApiCall, items: Sequence[dict[str, object]]) -> ServerResponse:
    """Return the page of a list that its token says."""
    text = call.parameters.get("page", "0")
    if not text.isascii() or not text.isdigit():
        raise ApiError(400, "InvalidPage", "The page token cannot be read.")
    start, end = int(text), int(text) + _read_limit(call)
    response = json_response(list(items[start:end]))
    return response.with_header(NEXT_PAGE_HEADER, str(end)) if end < len(items) else response


def _read_part_number(call: ApiCall) -> int:
    """Return the number of a part.

    Raises: ApiError (400).
    """
    text = call.require("uploadPartNum")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MAX_PART_NUMBER:
        raise ApiError(400, "InvalidUploadPartNumber", f"A part number is from 1 to {_MAX_PART_NUMBER}.")
    return int(text)


def _choose_parts(upload: Upload, content: Mapping[str, Any]) -> list[Part]:
    """Return the parts to commit, in ascending order; each uploaded part must be committed or excluded.

    Raises: ApiError (400).
    """
    try:
        wanted = [(int(one["partNum"]), str(one["etag"])) for one in content["partsToCommit"]]
        excluded = {int(one) for one in content.get("partsToExclude") or ()}
    except (KeyError, TypeError, ValueError) as error:
        raise ApiError(400, "InvalidJSON", "partsToCommit must be a list of partNum and etag.") from error
    if any(before >= after for (before, _), (after, _) in pairwise(wanted)):
        raise ApiError(400, "InvalidUploadPartOrder", "The parts to commit are not in ascending order.")
    parts = [upload.parts.get(number) for number, _ in wanted]
    for (number, etag), part in zip(wanted, parts, strict=True):
        if part is None or part.etag != _strip_quotes(etag):
            raise ApiError(400, "InvalidUploadPart", f"There is no part {number} with this ETag.")
    left = upload.parts.keys() - {number for number, _ in wanted} - excluded
    if left or not wanted:
        reason = f"part {min(left)} is neither committed nor excluded" if left else "there are no parts to commit"
        raise ApiError(400, "InvalidUploadPart", f"The upload cannot be committed: {reason}.")
    return [part for part in parts if part is not None]


def _camel_case(header: str) -> str:
    """Return a header's name as the JSON body spells it."""
    first, *rest = header.split("-")
    return first + "".join(word.capitalize() for word in rest)
