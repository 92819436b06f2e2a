"""The object store: photographs and heatmaps in one S3 bucket.

Keys are `<clinic>/<case>/<what>`: nothing personal, and all of a case's objects share a prefix, so that erasing one
case can never take another's photograph along, even if both clinics sent the same bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from shared.errors import ObjectMissing, Unavailable
from shared.settings import Settings

_SUFFIXES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
_CONNECT_TIMEOUT_S = 3
_READ_TIMEOUT_S = 15


def photograph_key(clinic_id: UUID, case_id: UUID, stored_sha256: str, media_type: str) -> str:
    """Return where a photograph lies; the digest in the key is that of the stored bytes."""
    return f"{clinic_id}/{case_id}/{stored_sha256}.{_SUFFIXES[media_type]}"


def overlay_key(clinic_id: UUID, case_id: UUID, lease_token: UUID) -> str:
    """Return where a lease's overlay lies; whoever comes late cannot overwrite the one that was recorded."""
    return f"{clinic_id}/{case_id}/overlay-{lease_token}.png"


def digest_in_key(key: str) -> str:
    """Return the SHA-256 that a photograph's key promises."""
    return key.rsplit("/", 1)[1].split(".", 1)[0]


class ObjectStore:
    """One bucket of an S3 server. Thread-safe; connects at the first call."""

    def __init__(self, client, bucket: str):
        self._client, self._bucket = client, bucket

    def put(self, key: str, data: bytes, media_type: str) -> None:
        """Store an object.

        Raises:
            Unavailable: the store cannot be reached or refuses.
        """
        with _translated():
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data, ContentType=media_type)

    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            ObjectMissing: there is no such object.
            Unavailable: the store cannot be reached or refuses.
        """
        with _translated():
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def erase_case(self, clinic_id: UUID, case_id: UUID) -> None:
        """Delete every object of a case; none being there is fine.

        Raises:
            Unavailable: the store cannot be reached or refuses.
        """
        with _translated():
            listing = self._client.list_objects_v2(Bucket=self._bucket, Prefix=f"{clinic_id}/{case_id}/")
            for found in listing.get("Contents", []):
                self._client.delete_object(Bucket=self._bucket, Key=found["Key"])

    def delete(self, key: str) -> None:
        """Delete one object; its not being there is fine.

        Raises:
            Unavailable: the store cannot be reached or refuses.
        """
        with _translated():
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def check(self) -> None:
        """Raise `Unavailable` unless the bucket answers and our key may read it."""
        with _translated():
            self._client.head_bucket(Bucket=self._bucket)

    def ensure_bucket(self) -> None:
        """Create the bucket if it is not there."""
        with _translated():
            try:
                self._client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                self._create_bucket()

    def _create_bucket(self) -> None:
        region = self._client.meta.region_name
        # Amazon takes its first region only as the absence of a constraint.
        elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": region}} if region != "us-east-1" else {}
        try:
            self._client.create_bucket(Bucket=self._bucket, **elsewhere)
        except ClientError as error:
            if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":  # another process was faster
                raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            raise ObjectMissing("object_missing", "A stored file of this case is missing.") from error
        raise Unavailable("storage_unavailable", "The image store refused the request. Please try again.") from error
    except (BotoCoreError, HTTPClientError) as error:
        raise Unavailable(
            "storage_unavailable", "The image store cannot be reached right now. Please try again."
        ) from error


def open_object_store(settings: Settings, max_connections: int = 32) -> ObjectStore:
    """Make the client; nothing connects until the first call."""
    secret = settings.s3_secret_key.get_secret_value() if settings.s3_secret_key else None
    client = boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=secret,
        config=Config(
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=_READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=max_connections,
            s3={"addressing_style": "path" if settings.s3_endpoint_url else "auto"},
        ),
    )
    return ObjectStore(client, settings.s3_bucket)
