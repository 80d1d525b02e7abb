"""The buckets, objects and multipart uploads of the emulated Object Storage.

Contents are files in a folder of the process, and everything else is in memory; nothing outlives the process. An
object that was uploaded in parts is the sequence of their files, so that a commit copies nothing.

Invariants:
- an object's content never changes: a write replaces the object, and readers of the former one keep its files;
- the file of a content is deleted with the last reference to it;
- names are ordered by their UTF-8 bytes.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
import uuid
import weakref
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_CHUNK_BYTES = 1024 * 1024


class Blob:
    """The bytes of one upload in a file of its own, which is deleted with this object."""

    def __init__(self, path: Path, size: int, md5: bytes, sha256: bytes) -> None:
        """Take the file over."""
        self.path = path
        self.size = size
        self.md5 = md5
        self.sha256 = sha256
        weakref.finalize(self, path.unlink, missing_ok=True)


class BlobWriter:
    """A blob that is being received: chunks go to its file and into its hashes."""

    def __init__(self, path: Path) -> None:
        """Create the file, readable for its owner alone."""
        self._path = path
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, chunk: bytes) -> None:
        """Append a chunk."""
        self._file.write(chunk)
        self._md5.update(chunk)
        self._sha256.update(chunk)
        self.size += len(chunk)

    def finish(self) -> Blob:
        """Close the file and return its content."""
        self._file.close()
        return Blob(self._path, self.size, self._md5.digest(), self._sha256.digest())

    def discard(self) -> None:
        """Close and delete the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes of a content: where they start, and how many there are."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object: its blobs in order, its entity tag, its MD5 as a header, its metadata and its times."""

    name: str
    blobs: tuple[Blob, ...]
    etag: str
    md5: str
    is_multipart: bool
    headers: Mapping[str, str]
    created_ms: int

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return sum(blob.size for blob in self.blobs)

    def read_chunks(self, span: ByteRange) -> Iterator[bytes]:
        """Yield the bytes of a range in chunks of at most 1 MiB."""
        skip, left = span.start, span.length
        for blob in self.blobs:
            if skip >= blob.size:
                skip -= blob.size
                continue
            with blob.path.open("rb", buffering=0) as file:
                file.seek(skip)
                skip = 0
                while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
                    left -= len(chunk)
                    yield chunk
            if not left:
                return


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a multipart upload."""

    number: int
    blob: Blob
    etag: str


@dataclass(slots=True)
class Upload:
    """A multipart upload that is neither committed nor aborted."""

    id: str
    name: str
    headers: Mapping[str, str]
    created_ms: int
    parts: dict[int, Part] = field(default_factory=dict)


@dataclass(slots=True)
class Bucket:
    """A bucket: its objects by name, their names in order, and its uploads by id."""

    name: str
    compartment_id: str
    created_ms: int
    etag: str = field(default_factory=lambda: str(uuid.uuid4()))
    objects: dict[str, StoredObject] = field(default_factory=dict)
    names: list[bytes] = field(default_factory=list)
    uploads: dict[str, Upload] = field(default_factory=dict)

    def put(self, one: StoredObject) -> None:
        """Add or replace an object."""
        if one.name not in self.objects:
            insort(self.names, one.name.encode())
        self.objects[one.name] = one

    def delete(self, name: str) -> None:
        """Remove an object that exists."""
        del self.objects[name]
        del self.names[bisect_left(self.names, name.encode())]

    def list_names(self, start: bytes) -> Iterator[bytes]:
        """Yield the names from a text on, in order."""
        for at in range(bisect_left(self.names, start), len(self.names)):
            yield self.names[at]


class ObjectStore:
    """All buckets, by region and name."""

    def __init__(self, read_now_ms: Callable[[], int]) -> None:
        """Start without buckets; the folder is made with the first content."""
        self._read_now_ms = read_now_ms
        self._folder: Path | None = None
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._count = 0

    def create_bucket(self, region: str, name: str, compartment_id: str) -> Bucket:
        """Add an empty bucket."""
        bucket = self._buckets[region, name] = Bucket(name, compartment_id, self._read_now_ms())
        return bucket

    def find_bucket(self, region: str, name: str) -> Bucket | None:
        """Return a bucket; None when there is none of this name."""
        return self._buckets.get((region, name))

    def list_buckets(self, region: str) -> Sequence[Bucket]:
        """Return the buckets of a region by name."""
        return [self._buckets[key] for key in sorted(self._buckets) if key[0] == region]

    def delete_bucket(self, region: str, name: str) -> None:
        """Remove a bucket that exists."""
        del self._buckets[region, name]

    def start_blob(self) -> BlobWriter:
        """Return a new content to write to."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="emulator-objects-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._count += 1
        return BlobWriter(self._folder / f"{self._count:08}")

    def make_object(self, name: str, blob: Blob, headers: Mapping[str, str]) -> StoredObject:
        """Return a new object with one blob."""
        return StoredObject(
            name, (blob,), make_etag(), encode_md5(blob.md5), is_multipart=False, headers=headers,
            created_ms=self._read_now_ms(),
        )  # fmt: skip

    def join_parts(self, upload: Upload, parts: Sequence[Part]) -> StoredObject:
        """Return the object of an upload's parts; its MD5 is that of the parts' MD5s, with their number."""
        digest = hashlib.md5(b"".join(part.blob.md5 for part in parts), usedforsecurity=False).digest()
        return StoredObject(
            name=upload.name,
            blobs=tuple(part.blob for part in parts),
            etag=make_etag(),
            md5=f"{encode_md5(digest)}-{len(parts)}",
            is_multipart=True,
            headers=upload.headers,
            created_ms=self._read_now_ms(),
        )

    def start_upload(self, bucket: Bucket, name: str, headers: Mapping[str, str]) -> Upload:
        """Add a multipart upload to a bucket."""
        upload = Upload(str(uuid.uuid4()), name, headers, self._read_now_ms())
        bucket.uploads[upload.id] = upload
        return upload

    def close(self) -> None:
        """Delete everything."""
        self._buckets.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def make_etag() -> str:
    """Return a new entity tag; Oracle's are UUIDs."""
    return str(uuid.uuid4())


def encode_md5(digest: bytes) -> str:
    """Return a digest as headers hold it."""
    return base64.b64encode(digest).decode()
