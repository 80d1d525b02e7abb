"""Object storage: URLs of objects, and a store that puts, gets, lists and deletes them under conditions.

`parse_object_url` reads `oci://bucket@namespace/name` and its kin. `ObjectStore` is what the program needs of a store;
`OciStore` is Oracle's, over the signed, limited and retried requests of `transport`; `CloudStore` is those of other
providers, over obstore, which signs and retries itself.

Invariants
- Every write has a condition: the object must be absent, or be the one whose entity tag the caller has seen. A store
  that holds other bytes is never overwritten by accident; `ObjectConflict` says so.
- A write whose answer was lost, or that was sent twice, is read back: the same size and hashes mean that it succeeded.
- An object is visible whole or not at all. An upload in parts that fails is aborted.
- A read names the entity tag of the object that it began with, so that no two versions are mixed.
- Memory does not grow with an object: files are sent and received part by part.
"""

# Over 700 lines: two stores keep one set of promises about conditions, lost answers and what each error means.

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote

import msgspec

from ociaudit.client.identity import explain_rejection, format_request_id
from ociaudit.client.network import Endpoints
from ociaudit.client.signer import Credentials
from ociaudit.client.transport import Call, FilePart, HttpClient, HttpResponse, RetryBudget
from ociaudit.errors import (
    AccessError,
    ConfigError,
    DiskError,
    InvalidResponse,
    ObjectConflict,
    OciAuditError,
    RequestError,
    ServiceError,
    ServiceUnreachable,
    UsageError,
    format_count,
)

T = TypeVar("T")
Item = TypeVar("Item")
SCHEMES = ("oci", "s3", "gs", "az")
MULTIPART_BYTES = 64 * 1024 * 1024
"""A larger file is uploaded in parts."""
_PART_BYTES = 32 * 1024 * 1024
_MAX_PARTS = 10_000
_PARTS_IN_FLIGHT = 4
_READ_BYTES = 8 * 1024 * 1024
_READS_IN_FLIGHT = 4
_ITEMS_IN_FLIGHT = 4
_HASH_BYTES = 1024 * 1024
_LIST_LIMIT = 1000
_MAX_TEXT = 400
_MAX_NAME_BYTES = 1024
_MAX_FILE_NAME_BYTES = 180
"""The last part of a name is that of a local file for a while, with a suffix."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,256}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FORMS = "oci://bucket@namespace/name, s3://bucket/name, gs://bucket/name and az://container/name"
_SHA256_FIELD = "sha256"
_SHA256_HEADER = f"opc-meta-{_SHA256_FIELD}"
_READ_CODES = frozenset({"BucketNotFound", "NotAuthorizedOrNotFound", "NotAuthorized"})


@dataclass(frozen=True, slots=True)
class ObjectUrl:
    """The place of an object, or of several whose names begin with `name`. An empty `namespace` is the tenancy's."""

    scheme: str
    bucket: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """Return the URL as it is typed."""
        namespace = f"@{self.namespace}" if self.namespace else ""
        return f"{self.scheme}://{self.bucket}{namespace}/{self.name}"

    @property
    def file_name(self) -> str:
        """Return what follows the last slash of the name."""
        return self.name.rpartition("/")[2]

    def beside(self, file_name: str) -> ObjectUrl:
        """Return the URL of another object in the same folder."""
        folder, slash, _ = self.name.rpartition("/")
        return replace(self, name=f"{folder}{slash}{file_name}")

    def inside(self, path: str) -> ObjectUrl:
        """Return the URL of an object below this one."""
        return replace(self, name=f"{self.name}/{path}")

    @property
    def local_name(self) -> str:
        """Return a name for the folder in which a local copy lies: readable, and another one for another place."""
        folder = self.name.rpartition("/")[0]
        digest = hashlib.sha256(f"{self.scheme}://{self.bucket}@{self.namespace}/{folder}".encode()).hexdigest()
        return f"{self.scheme}-{self.bucket[:64]}-{digest[:12]}"


def is_object_url(text: str) -> bool:
    """Return whether a text is a URL, of whatever scheme."""
    return _SCHEME.match(text) is not None


def parse_object_url(text: str, *, what: str = "object") -> ObjectUrl:
    """Return the place that a URL names; `what` is what it should be, for the message.

    Raises:
        UsageError: the scheme is unknown, or the URL cannot be that of an object.
    """
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else ""
    if match is None or scheme not in SCHEMES:
        raise UsageError(
            f"{text!r} has the scheme {scheme!r}, which oci-audit neither reads nor writes",
            hint=f"known are {_FORMS}; name a file, or pipe: -o - writes to stdout, and - reads stdin",
        )
    place, _, name = text[match.end() :].partition("/")
    bucket, at, namespace = place.partition("@")
    form = f"write oci://BUCKET@NAMESPACE/NAME for an {what}" if scheme == "oci" else f"write {scheme}://BUCKET/NAME"
    if scheme == "oci" and not at and "@" in name:
        slashed = f"{bucket}/{name.partition('@')[0]}"
        raise UsageError(f"the bucket's name {slashed!r} in {text!r} has a slash, which no bucket has", hint=form)
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{bucket!r} in {text!r} is not the name of a bucket",
            hint=f"a bucket's name has letters, digits, dashes, underscores and periods; {form}",
        )
    if at and (scheme != "oci" or not _NAMESPACE.fullmatch(namespace)):
        raise UsageError(
            f"{namespace!r} in {text!r} is not an Object Storage namespace",
            hint="omit @NAMESPACE for the tenancy's own, which `oci os ns get` shows" if scheme == "oci" else form,
        )
    _check_name(text, name, form)
    return ObjectUrl(scheme, bucket, namespace, name)


def _check_name(text: str, name: str, form: str) -> None:
    segments = name.split("/")
    if not name:
        raise UsageError(f"{text!r} names a bucket and no object in it", hint=form)
    if not segments[-1]:
        raise UsageError(f"{text!r} ends with a slash, as a folder does", hint=form)
    if not name.isprintable() or not {"", ".", ".."}.isdisjoint(segments):
        raise UsageError(
            f"the object's name in {text!r} has an empty part, '.', '..' or a control character",
            hint="choose a name like that of a file below a folder",
        )
    if len(name.encode()) > _MAX_NAME_BYTES or len(segments[-1].encode()) > _MAX_FILE_NAME_BYTES:
        raise UsageError(
            f"the object's name in {text[:80]!r}… is too long",
            hint=f"at most {format_count(_MAX_NAME_BYTES, 'byte')}, and {_MAX_FILE_NAME_BYTES} after the last slash",
        )


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """An object as a store describes it. The hashes are hexadecimal, and empty where they are not known.

    `md5` is of the whole object. `sha256` is what the writer stated in the object's metadata.
    """

    size_bytes: int
    etag: str
    md5: str = ""
    sha256: str = ""
    multipart_md5: str = ""
    """For an object of several parts in Oracle's store: the MD5 of their MD5s in base64, a dash, and their number."""


class ObjectStore(Protocol):
    """What the program needs of a store. Names are relative to the bucket; errors name the whole URL."""

    async def head(self, name: str) -> ObjectFacts | None:
        """Return an object's facts, None if there is none of this name.

        Raises:
            AccessError: the bucket does not exist, or may not be used.
            UsageError: the namespace is another one.
            ServiceUnreachable: there was no valid response.
        """
        ...

    async def read(self, name: str, *, start: int, length: int, etag: str) -> bytes:
        """Return `length` bytes of the object that has this entity tag.

        Raises:
            ObjectConflict: another program has replaced or removed it.
            OciAuditError: as `head`.
        """
        ...

    async def put(self, name: str, data: bytes, *, replaces: str | None) -> ObjectFacts:
        """Write a small object that is absent, or that `replaces` the one with this entity tag.

        Raises:
            ObjectConflict: it is there with other bytes, or is not the one with this entity tag.
            OciAuditError: as `head`.
        """
        ...

    async def put_file(self, name: str, path: Path, *, replaces: str | None, watch: UploadWatch) -> ObjectFacts:
        """Write a file as `put` does, in parts if it is large.

        Raises:
            ObjectConflict, OciAuditError: as `put`.
            DiskError: the file cannot be read.
        """
        ...

    def list_names(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names below `prefix`, a folder's name with a slash at its end, in order.

        Raises:
            OciAuditError: as `head`.
        """
        ...

    async def delete(self, name: str) -> None:
        """Remove an object if it is there.

        Raises:
            OciAuditError: as `head`.
        """
        ...

    async def abort(self, name: str, upload_id: str) -> None:
        """Abort an upload in parts that was not finished; that one does not exist is not reported.

        Raises:
            OciAuditError: as `head`.
        """
        ...


class UploadWatch:
    """What an upload reports, and what it may know. Every method of this class does nothing."""

    sha256: str = ""
    """The file's SHA-256, if it is known."""

    def on_upload(self, upload_id: str) -> None:
        """Handle the begin of an upload in parts; one that a kill leaves behind can be aborted by its id."""

    def on_sent(self, size_bytes: int) -> None:
        """Handle bytes that have been sent."""


async def read_whole(store: ObjectStore, name: str, facts: ObjectFacts) -> AsyncIterator[bytes]:
    """Yield an object's bytes in order, a few ranges ahead; all are of the object with the facts' entity tag.

    Raises:
        ObjectConflict, OciAuditError: as `ObjectStore.read`.
    """
    starts = iter(range(0, facts.size_bytes, _READ_BYTES))
    pending: deque[asyncio.Task[bytes]] = deque()

    def request_next() -> None:
        start = next(starts, None)
        if start is not None:
            length = min(_READ_BYTES, facts.size_bytes - start)
            pending.append(asyncio.ensure_future(store.read(name, start=start, length=length, etag=facts.etag)))

    try:
        for _ in range(_READS_IN_FLIGHT):
            request_next()
        while pending:
            data = await pending[0]
            pending.popleft()
            request_next()
            yield data
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def for_each(items: Iterable[Item], work: Callable[[Item], Awaitable[None]]) -> None:
    """Do the work for all items, a few at a time; the first error ends it."""
    todo = iter(items)

    async def do_some() -> None:
        for item in todo:
            await work(item)

    tasks = [asyncio.ensure_future(do_some()) for _ in range(_ITEMS_IN_FLIGHT)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        DiskError: it cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DiskError(f"cannot read {path}: {error.strerror or error}") from error


def _hash_part(part: FilePart) -> bytes:
    """Return the MD5 of a part of a file."""
    digest = hashlib.md5(usedforsecurity=False)
    end = part.start + part.length
    for start in range(part.start, end, _HASH_BYTES):
        digest.update(os.pread(part.descriptor, min(_HASH_BYTES, end - start), start))
    return digest.digest()


class _Upload(msgspec.Struct):
    uploadId: str  # noqa: N815 - the API's name


class _Listed(msgspec.Struct):
    name: str


class _Listing(msgspec.Struct):
    objects: list[_Listed]
    nextStartWith: str | None = None  # noqa: N815


class OciStore:
    """A bucket of Oracle's Object Storage. Used inside one event loop."""

    def __init__(
        self, client: HttpClient, endpoints: Endpoints, credentials: Credentials, *, bucket: str, namespace: str
    ) -> None:
        """Send requests through `client`; without a namespace, the tenancy's is requested when it is needed."""
        self._client = client
        self._endpoints = endpoints
        self._credentials = credentials
        self._bucket = bucket
        self._namespace = namespace
        self._asking = asyncio.Lock()

    async def read_namespace(self) -> str:
        """Return the tenancy's namespace.

        Raises:
            OciAuditError: the service did not say.
        """
        async with self._asking:
            if not self._namespace:
                self._namespace = await self._ask_namespace()
        return self._namespace

    async def _ask_namespace(self) -> str:
        try:
            response = await self._fetch(f"{self._locate()}/n/", Call(), _parse_namespace)
        except RequestError as error:
            raise await self._explain("the Object Storage namespace cannot be read", error, is_reading=True) from error
        return response.body

    async def head(self, name: str) -> ObjectFacts | None:
        """Implement `ObjectStore.head`.

        The answer to a HEAD has no body, so a 404 does not say what is missing: a GET of one byte does.
        """
        url = await self._name(name)
        try:
            response = await self._fetch(url, Call("HEAD", is_decoded=False), _ignore)
            return _read_facts(response.headers)
        except RequestError as error:
            if not isinstance(error, ServiceError) or error.status != 404:
                raise await self._explain(f"{self.show(name)} cannot be inspected", error, is_reading=True) from error
        accepted = frozenset({200, 206})
        try:
            response = await self._fetch(
                url, Call(headers={"range": "bytes=0-0"}, accepted=accepted, is_decoded=False), _ignore
            )
        except RequestError as error:
            if isinstance(error, ServiceError) and error.code == "ObjectNotFound":
                return None
            raise await self._explain(f"{self.show(name)} cannot be inspected", error, is_reading=True) from error
        return await self.head(name)  # it has just been written

    async def read(self, name: str, *, start: int, length: int, etag: str) -> bytes:
        """Implement `ObjectStore.read`."""

        def check_length(body: bytes) -> bytes:
            if len(body) != length:
                raise ValueError(f"sent {format_count(len(body), 'byte')} of an object where {length:,} were requested")
            return body

        headers = {"range": f"bytes={start}-{start + length - 1}", "if-match": etag, "accept-encoding": "identity"}
        call = Call(headers=headers, accepted=frozenset({206}), is_decoded=False)
        try:
            return (await self._fetch(await self._name(name), call, check_length)).body
        except RequestError as error:
            if isinstance(error, ServiceError) and error.code == "ObjectNotFound":
                raise ObjectConflict(
                    f"{self.show(name)} was removed while it was read{format_request_id(error)}",
                    hint="find out who removes it, then run the same command again",
                ) from error
            raise await self._explain(
                f"{self.show(name)} cannot be read", error, hint=_READ_HINT, is_reading=True
            ) from error

    async def put(self, name: str, data: bytes, *, replaces: str | None) -> ObjectFacts:
        """Implement `ObjectStore.put`."""
        md5, sha256 = hashlib.md5(data, usedforsecurity=False).digest(), hashlib.sha256(data).hexdigest()
        return await self._put(name, data, ObjectFacts(len(data), "", md5.hex(), sha256), replaces)

    async def put_file(self, name: str, path: Path, *, replaces: str | None, watch: UploadWatch) -> ObjectFacts:
        """Implement `ObjectStore.put_file`; a part is sent while the next one is hashed."""
        try:
            with path.open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                sha256 = watch.sha256 or await asyncio.to_thread(hash_file, path)
                whole = FilePart(file.fileno(), 0, size)
                if size > MULTIPART_BYTES:
                    upload = _MultipartUpload(self, name, whole, sha256=sha256, replaces=replaces, watch=watch)
                    return await upload.run()
                md5 = await asyncio.to_thread(_hash_part, whole)
                facts = await self._put(name, whole, ObjectFacts(size, "", md5.hex(), sha256), replaces)
                watch.on_sent(size)
                return facts
        except OSError as error:
            raise DiskError(f"cannot read {path}: {error.strerror or error}") from error

    async def _put(self, name: str, body: bytes | FilePart, facts: ObjectFacts, replaces: str | None) -> ObjectFacts:
        headers = {
            **_make_condition(replaces),
            "content-type": "application/octet-stream",
            "content-md5": base64.b64encode(bytes.fromhex(facts.md5)).decode(),
            _SHA256_HEADER: facts.sha256,
        }
        try:
            response = await self._fetch(
                await self._name(name), Call("PUT", headers, body, is_upload=True), _ignore, retries=RetryBudget()
            )
        except RequestError as error:
            return await self.read_back(name, facts, error)
        return replace(facts, etag=response.headers.get("etag", ""))

    async def read_back(self, name: str, facts: ObjectFacts, error: RequestError) -> ObjectFacts:
        """Return the facts of an object whose write was refused or not answered, if it is there as it should be.

        Raises:
            OciAuditError: it is not there, or is another one.
        """
        found = None
        with contextlib.suppress(OciAuditError):
            found = await self.head(name)
        if found is not None and is_same_object(found, facts):
            return found
        raise await self._explain(
            f"{self.show(name)} cannot be written", error, has_object=found is not None
        ) from error

    async def list_names(self, prefix: str) -> AsyncIterator[str]:
        """Implement `ObjectStore.list_names`."""
        folder = f"{self._locate()}/n/{quote(await self.read_namespace())}/b/{quote(self._bucket)}/o"
        start = ""
        while True:
            url = f"{folder}?prefix={quote(prefix, safe='')}&limit={_LIST_LIMIT}"
            if start:
                url += f"&start={quote(start, safe='')}"
            try:
                found = (await self._fetch(url, Call(), _parse_listing)).body
                if found.nextStartWith is not None and found.nextStartWith <= start:
                    raise InvalidResponse("the service listed the same names twice")
            except RequestError as error:
                raise await self._explain(
                    f"{self.show(prefix)}* cannot be listed", error, hint=_READ_HINT, is_reading=True
                ) from error
            for one in found.objects:
                yield one.name
            if found.nextStartWith is None:
                return
            start = found.nextStartWith

    async def delete(self, name: str) -> None:
        """Implement `ObjectStore.delete`."""
        try:
            await self._fetch(await self._name(name), Call("DELETE", accepted=frozenset({204})), _ignore)
        except RequestError as error:
            if not (isinstance(error, ServiceError) and error.code == "ObjectNotFound"):
                raise await self._explain(f"{self.show(name)} cannot be removed", error) from error

    async def abort(self, name: str, upload_id: str) -> None:
        """Implement `ObjectStore.abort`."""
        url = f"{await self._name(name, 'u')}?uploadId={quote(upload_id, safe='')}"
        try:
            await self._fetch(url, Call("DELETE", accepted=frozenset({204})), _ignore)
        except RequestError as error:
            if not (isinstance(error, ServiceError) and error.code in {"UploadNotFound", "NoSuchUpload"}):
                raise await self._explain(
                    f"the unfinished upload of {self.show(name)} cannot be aborted", error
                ) from error

    async def create_upload(self, name: str, sha256: str, replaces: str | None) -> str:
        """Begin an upload in parts and return its id.

        Raises:
            RequestError: the service refused.
        """
        fields = {"object": name, "contentType": "application/octet-stream", "metadata": {_SHA256_FIELD: sha256}}
        url = f"{self._locate()}/n/{quote(await self.read_namespace())}/b/{quote(self._bucket)}/u"
        call = Call("POST", _make_condition(replaces), msgspec.json.encode(fields))
        return (await self._fetch(url, call, _parse_upload)).body.uploadId

    async def put_part(self, name: str, upload_id: str, number: int, part: FilePart, md5: bytes) -> str:
        """Send a part and return its entity tag.

        Raises:
            RequestError: the service refused it.
        """
        url = f"{await self._name(name, 'u')}?uploadId={quote(upload_id, safe='')}&uploadPartNum={number}"
        headers = {"content-type": "application/octet-stream", "content-md5": base64.b64encode(md5).decode()}
        response = await self._fetch(url, Call("PUT", headers, part, is_upload=True), _ignore, retries=RetryBudget())
        return response.headers.get("etag", "")

    async def commit_upload(self, name: str, upload_id: str, parts: Mapping[int, str], facts: ObjectFacts) -> str:
        """Make the object of its parts, and return its entity tag; `facts.etag` is that of the object it replaces.

        Raises:
            RequestError: the service refused.
        """
        fields = {"partsToCommit": [{"partNum": number, "etag": parts[number]} for number in sorted(parts)]}
        url = f"{await self._name(name, 'u')}?uploadId={quote(upload_id, safe='')}"
        call = Call("POST", _make_condition(facts.etag or None), msgspec.json.encode(fields))
        return (await self._fetch(url, call, _ignore)).headers.get("etag", "")

    async def _fetch(
        self, url: str, call: Call, parse: Callable[[bytes], T], *, retries: RetryBudget | None = None
    ) -> HttpResponse[T]:
        endpoint = f"objectstorage {self._credentials.region}"
        response = await self._client.fetch(url, parse, endpoint=endpoint, call=call, retries=retries)
        response.release()
        return response

    def _locate(self) -> str:
        return self._endpoints.locate("objectstorage", self._credentials.region)

    async def _name(self, name: str, kind: str = "o") -> str:
        """Return the URL of an object, or with kind `u` of its upload."""
        namespace = await self.read_namespace()
        return f"{self._locate()}/n/{quote(namespace)}/b/{quote(self._bucket)}/{kind}/{quote(name, safe='/')}"

    def show(self, name: str) -> str:
        """Return an object's URL."""
        return str(ObjectUrl("oci", self._bucket, self._namespace, name))

    async def _explain(
        self,
        problem: str,
        error: RequestError,
        *,
        hint: str | None = None,
        has_object: bool = True,
        is_reading: bool = False,
    ) -> OciAuditError:
        """Return the error that stops the program, for a failed request; `is_reading`: one that changes nothing."""
        text = f"{problem}: {error}{format_request_id(error)}"
        if not isinstance(error, ServiceError):
            return ServiceUnreachable(text)
        if error.status == 401:
            return explain_rejection(error, self._credentials)
        if error.code == "NamespaceNotFound":
            return UsageError(text, hint=await self._advise_namespace())
        if error.code in _READ_CODES or error.status == 403 or (error.status == 404 and not error.is_oci):
            policy = self._credentials.format_policy("read objects" if is_reading else "manage objects")
            return AccessError(
                text,
                hint=f"check the bucket's name and that it is in the profile's region, {self._credentials.region}; "
                f"else ask for: {policy} where target.bucket.name = '{self._bucket}'"
                + ("; to write there, too, ask to manage objects" if is_reading else ""),
            )
        if error.status == 412:
            state = "it was changed by another program meanwhile" if has_object else "another program has removed it"
            return ObjectConflict(f"{problem}: {state}{format_request_id(error)}", hint=hint)
        return ServiceUnreachable(text, hint=hint)

    async def _advise_namespace(self) -> str:
        hint = "omit @NAMESPACE from the URL for the tenancy's own"
        with contextlib.suppress(OciAuditError):
            own = await self._ask_namespace()
            hint = f"the profile's tenancy has the namespace {own}: write oci://{self._bucket}@{own}/…"
        return hint


# Where obstore looks for keys if the environment has none.
_METADATA_SERVICES = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")
_KEY_VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_READ_HINT = "run the same command again"


class _MultipartUpload:
    """One upload in parts."""

    def __init__(
        self, store: OciStore, name: str, whole: FilePart, *, sha256: str, replaces: str | None, watch: UploadWatch
    ) -> None:
        self._store = store
        self._name = name
        self._whole = whole
        self._sha256 = sha256
        self._replaces = replaces
        self._watch = watch
        size = max(_PART_BYTES, -(-whole.length // _MAX_PARTS))
        self._todo = iter(
            (number, FilePart(whole.descriptor, start, min(size, whole.length - start)))
            for number, start in enumerate(range(0, whole.length, size), 1)
        )
        self._etags: dict[int, str] = {}
        self._hashes: dict[int, bytes] = {}

    async def run(self) -> ObjectFacts:
        """Upload the parts, look at the object again, and commit; abort if any of that fails."""
        facts = ObjectFacts(self._whole.length, "", sha256=self._sha256)
        try:
            upload_id = await self._store.create_upload(self._name, self._sha256, self._replaces)
        except RequestError as error:
            return await self._store.read_back(self._name, facts, error)
        is_over = False
        try:
            self._watch.on_upload(upload_id)
            await self._send_parts(upload_id)
            facts = replace(facts, multipart_md5=self._sum_hashes())
            found = await self._commit(upload_id, facts)
            is_over = True
            return found
        except RequestError as error:
            return await self._store.read_back(self._name, facts, error)
        finally:
            if not is_over:
                with contextlib.suppress(OciAuditError):
                    await self._store.abort(self._name, upload_id)

    async def _send_parts(self, upload_id: str) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_PARTS_IN_FLIGHT):
                    group.create_task(self._send_some(upload_id))
        except* OciAuditError as errors:
            raise _find_first(errors) from errors

    async def _send_some(self, upload_id: str) -> None:
        for number, part in self._todo:
            md5 = self._hashes[number] = await asyncio.to_thread(_hash_part, part)
            self._etags[number] = await self._store.put_part(self._name, upload_id, number, part, md5)
            self._watch.on_sent(part.length)

    async def _commit(self, upload_id: str, facts: ObjectFacts) -> ObjectFacts:
        """Commit if the object is still what it was: one report says that the service ignores a commit's condition."""
        before = await self._store.head(self._name)
        if (before.etag if before else None) != self._replaces:
            if before is not None and is_same_object(before, facts):
                await self._store.abort(self._name, upload_id)
                return before
            state = "is there now" if before else "was removed"
            raise ObjectConflict(
                f"{self._store.show(self._name)} {state}: another program wrote while the parts were uploaded",
                hint="choose another name, or look at the object and use --overwrite",
            )
        stated = replace(facts, etag=self._replaces or "")
        etag = await self._store.commit_upload(self._name, upload_id, self._etags, stated)
        return replace(facts, etag=etag)

    def _sum_hashes(self) -> str:
        joined = b"".join(self._hashes[number] for number in sorted(self._hashes))
        digest = hashlib.md5(joined, usedforsecurity=False).digest()
        return f"{base64.b64encode(digest).decode()}-{len(self._hashes)}"


def is_same_object(found: ObjectFacts, wanted: ObjectFacts) -> bool:
    """Return whether an object has the bytes that were to be written, by its size and every hash that both know."""
    pairs = (
        (found.sha256, wanted.sha256),
        (found.md5, wanted.md5),
        (found.multipart_md5, wanted.multipart_md5),
    )
    known = [(a, b) for a, b in pairs if a and b]
    return found.size_bytes == wanted.size_bytes and bool(known) and all(a == b for a, b in known)


def _find_first(errors: BaseExceptionGroup[OciAuditError]) -> OciAuditError:
    """Return one error of a group; the others of an upload say the same."""
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if not isinstance(first, OciAuditError):
        raise first
    return first


def _make_condition(replaces: str | None) -> dict[str, str]:
    return {"if-none-match": "*"} if replaces is None else {"if-match": replaces}


class CloudStore:
    """A bucket of S3, Google Cloud Storage or Azure Blob Storage. Used inside one event loop.

    obstore reads the sign-in and the endpoint from the environment, under the names of each provider's own tools. A
    file that is uploaded in parts has no condition of its own: a look before it is all there is.
    """

    def __init__(self, url: ObjectUrl) -> None:
        """Open the bucket of a URL; nothing is requested yet.

        Raises:
            UsageError: obstore is not installed.
            ConfigError: the environment has settings that obstore cannot use.
        """
        try:
            import obstore
            from obstore import store
        except ImportError as error:
            raise UsageError(
                f"{url.scheme}:// needs the package obstore, which is not installed",
                hint="install it with: pip install 'oci-audit-streamer[cloud]'",
            ) from error
        self._url = url
        self._obstore = obstore
        make = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}[url.scheme]
        try:
            self._store = make(url.bucket)
        except (obstore.exceptions.BaseError, ValueError) as error:
            raise ConfigError(
                f"the settings for {url.scheme}:// cannot be used: {_shorten(error)}",
                hint="check the environment variables that the provider's own command reads",
            ) from error

    async def head(self, name: str) -> ObjectFacts | None:
        """Implement `ObjectStore.head`."""
        try:
            found = await self._obstore.get_async(self._store, name, options={"head": True})
        except FileNotFoundError as error:
            if _is_bucket_missing(error):
                raise self._explain(name, "looked at", error) from error
            return None
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise self._explain(name, "looked at", error) from error
        sha256 = found.attributes.get(_SHA256_FIELD, "")
        return ObjectFacts(found.meta["size"], found.meta["e_tag"] or "", sha256=str(sha256))

    async def read(self, name: str, *, start: int, length: int, etag: str) -> bytes:
        """Implement `ObjectStore.read`."""
        try:
            found = await self._obstore.get_async(
                self._store, name, options={"range": (start, start + length), "if_match": etag}
            )
            data = bytes(await found.bytes_async())
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise self._explain(name, "read", error) from error
        if len(data) != length:
            raise ServiceUnreachable(f"{self._show(name)}: {format_count(len(data), 'byte')} of {length:,} arrived")
        return data

    async def put(self, name: str, data: bytes, *, replaces: str | None) -> ObjectFacts:
        """Implement `ObjectStore.put`."""
        return await self._put(
            name, data, ObjectFacts(len(data), "", sha256=hashlib.sha256(data).hexdigest()), replaces
        )

    async def put_file(self, name: str, path: Path, *, replaces: str | None, watch: UploadWatch) -> ObjectFacts:
        """Implement `ObjectStore.put_file`."""
        size, sha256 = await asyncio.to_thread(_measure, path)
        facts = ObjectFacts(size, "", sha256=watch.sha256 or sha256)
        if size <= MULTIPART_BYTES:
            return await self._put(name, await asyncio.to_thread(_read_small, path), facts, replaces)
        before = await self.head(name)
        if (before.etag if before else None) != replaces:
            if before is not None and is_same_object(before, facts):
                return before
            raise ObjectConflict(f"{self._show(name)} was written or removed by another program")
        try:
            result = await self._obstore.put_async(
                self._store,
                name,
                path,
                attributes={_SHA256_FIELD: facts.sha256},
                chunk_size=max(_PART_BYTES, -(-size // _MAX_PARTS)),
                max_concurrency=_PARTS_IN_FLIGHT,
            )
        except (self._obstore.exceptions.BaseError, OSError) as error:
            return await self._read_back(name, facts, error)
        return replace(facts, etag=result["e_tag"] or "")

    async def _put(self, name: str, data: bytes, facts: ObjectFacts, replaces: str | None) -> ObjectFacts:
        attributes = {_SHA256_FIELD: facts.sha256}
        try:
            result = await self._obstore.put_async(
                self._store,
                name,
                data,
                attributes=attributes,
                mode="create" if replaces is None else {"e_tag": replaces},
                use_multipart=False,
            )
        except (self._obstore.exceptions.BaseError, OSError) as error:
            return await self._read_back(name, facts, error)
        return replace(facts, etag=result["e_tag"] or "")

    async def _read_back(self, name: str, facts: ObjectFacts, error: Exception) -> ObjectFacts:
        found = None
        with contextlib.suppress(OciAuditError):
            found = await self.head(name)
        if found is not None and is_same_object(found, facts):
            return found
        raise self._explain(name, "written", error) from error

    async def list_names(self, prefix: str) -> AsyncIterator[str]:
        """Implement `ObjectStore.list_names`."""
        try:
            async for batch in self._obstore.list(self._store, prefix):
                for one in batch:
                    yield one["path"]
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise self._explain(prefix, "listed", error) from error

    async def delete(self, name: str) -> None:
        """Implement `ObjectStore.delete`."""
        try:
            await self._obstore.delete_async(self._store, name)
        except FileNotFoundError as error:
            if _is_bucket_missing(error):
                raise self._explain(name, "removed", error) from error
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise self._explain(name, "removed", error) from error

    async def abort(self, name: str, upload_id: str) -> None:
        """Do nothing: obstore aborts an upload that fails, and does not give its id away."""

    def _show(self, name: str) -> str:
        return str(replace(self._url, name=name))

    def _explain(self, name: str, action: str, error: Exception) -> OciAuditError:
        """Return the error that stops the program, for one of obstore's."""
        errors = self._obstore.exceptions
        text = f"{self._show(name)} cannot be {action}: {_shorten(error)}"
        if isinstance(error, errors.AlreadyExistsError | errors.PreconditionError):
            return ObjectConflict(f"{self._show(name)} cannot be {action}: it was changed by another program meanwhile")
        if isinstance(error, errors.PermissionDeniedError | errors.UnauthenticatedError | PermissionError):
            return AccessError(text, hint="check the keys in the environment, and what they may do in this bucket")
        if any(
            one in str(error) for one in _METADATA_SERVICES
        ):  # where obstore looks for keys if the environment has none
            return AccessError(
                f"{self._show(name)} cannot be {action}: the environment has no keys, and this machine's metadata "
                "service gave none",
                hint=f"set {_KEY_VARIABLES[self._url.scheme]}",
            )
        if isinstance(error, FileNotFoundError) and _is_bucket_missing(error):
            return AccessError(text, hint="check the bucket's name, and the endpoint and region in the environment")
        if isinstance(error, FileNotFoundError):
            return ObjectConflict(text, hint=_READ_HINT)
        return ServiceUnreachable(
            text,
            hint="check the network, and the endpoint and region in the environment; then run it again",
        )


def _measure(path: Path) -> tuple[int, str]:
    sha256 = hash_file(path)
    try:
        return path.stat().st_size, sha256
    except OSError as error:
        raise DiskError(f"cannot read {path}: {error.strerror or error}") from error


def _read_small(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DiskError(f"cannot read {path}: {error.strerror or error}") from error


def _is_bucket_missing(error: Exception) -> bool:
    return any(code in str(error) for code in ("NoSuchBucket", "ContainerNotFound", "bucket does not exist"))


def _shorten(error: Exception) -> str:
    """Return the first line of obstore's text; the query of a URL may hold a signature, and is left out."""
    return re.sub(r"(https?://[^\s?]*)\?\S*", r"\1", str(error).partition("\n")[0])[:_MAX_TEXT]


def _read_facts(headers: Mapping[str, str]) -> ObjectFacts:
    md5 = ""
    with contextlib.suppress(ValueError):
        md5 = base64.b64decode(headers.get("content-md5", ""), validate=True).hex()
    return ObjectFacts(
        size_bytes=int(headers.get("content-length", "0")),
        etag=headers.get("etag", "").strip('"'),
        md5=md5,
        sha256=headers.get(_SHA256_HEADER, ""),
        multipart_md5=headers.get("opc-multipart-md5", ""),
    )


def _parse_namespace(body: bytes) -> str:
    namespace = msgspec.json.decode(body, type=str)
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError("its namespace is not the name of one")
    return namespace


_parse_upload = msgspec.json.Decoder(_Upload).decode
_parse_listing = msgspec.json.Decoder(_Listing).decode


def _ignore(_: bytes) -> None:
    return None
