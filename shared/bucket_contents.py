"""What an S3 bucket holds, and how it is erased for good.

In a bucket with versioning, a plain deletion only adds a delete marker: the bytes stay, as a noncurrent version, until
that version itself is deleted.
"""

from collections.abc import Iterator
from itertools import chain

from botocore.client import BaseClient

_NOTHING = ".dermqueue-nothing"
"""A key under which nothing is ever stored."""


class BucketContents:
    """The objects of one bucket; if it is or was versioned, every version and delete marker. Errors are boto3's."""

    def __init__(self, client: BaseClient, bucket: str):
        self._client, self._bucket = client, bucket

    def pages(self, prefix: str = "") -> Iterator[list[dict]]:
        """Yield S3's entries (`Key`, `LastModified`, perhaps `VersionId`) under a prefix, page by page."""
        operation, kinds = "list_objects_v2", ["Contents"]
        if self._keeps_versions():
            operation, kinds = "list_object_versions", ["DeleteMarkers", "Versions"]
        for page in self._client.get_paginator(operation).paginate(Bucket=self._bucket, Prefix=prefix):
            yield [entry for kind in kinds for entry in page.get(kind, [])]

    def erase_under(self, prefix: str) -> None:
        """Erase whatever is stored under a prefix."""
        for entry in self._entries(prefix):
            self._delete(entry)

    def erase(self, key: str) -> None:
        """Erase one object, if it is there. Without versions, this is one request."""
        if self._delete({"Key": key}).get("DeleteMarker"):
            for entry in self._entries(key):
                if entry["Key"] == key:
                    self._delete(entry)

    def _entries(self, prefix: str) -> list[dict]:
        """Return everything under a prefix, versions before markers: without its marker, one would be seen again."""
        return sorted(chain.from_iterable(self.pages(prefix)), key=lambda entry: "Size" not in entry)

    def _keeps_versions(self) -> bool:
        """Delete nothing, and see whether S3 answers with a delete marker.

        Asking for the bucket's versioning would need a permission that no key without versions has needed so far.
        """
        answer = self._delete({"Key": _NOTHING})
        if not answer.get("DeleteMarker"):
            return False
        self._delete({"Key": _NOTHING, "VersionId": answer["VersionId"]})
        return True

    def _delete(self, entry: dict) -> dict:
        named = {name: entry[name] for name in ("Key", "VersionId") if name in entry}
        return self._client.delete_object(Bucket=self._bucket, **named)
