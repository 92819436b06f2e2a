"""The object store: photographs and heatmaps in one S3 bucket."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from threading import BoundedSemaphore
from urllib.parse import urlsplit
from uuid import UUID

import boto3
from botocore import exceptions as aws_errors
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.handlers import add_expect_header
from urllib3.exceptions import HTTPError, ReadTimeoutError

from shared.bucket_contents import BucketContents
from shared.circuit_breaker import CircuitBreaker, CircuitOpen
from shared.errors import (
    ConfigurationInvalid,
    ObjectInaccessible,
    ObjectMissing,
    ObjectRefused,
    ObjectTimedOut,
    Unavailable,
)
from shared.settings import Settings

_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S, _CONNECTION_WAIT_S = 3, 6, 2.0
_PAUSE_AFTER_TIMEOUT_S = 2.0  # during which every call fails
_LONGEST_CALL_S = 20.0  # both attempts, with some margin, or all of an object's bytes: well below a lease
_AT_ONCE_BYTES = 256 * 1024
_TIMEOUTS = aws_errors.ConnectTimeoutError, aws_errors.ReadTimeoutError, ReadTimeoutError  # the last amid the bytes
_BROKEN_OFF = aws_errors.IncompleteReadError, aws_errors.ReadTimeoutError, HTTPError
_AWAY = CircuitOpen, aws_errors.BotoCoreError, aws_errors.HTTPClientError, HTTPError  # the last, such as of TLS
ENCRYPTION_PROBE = ".dermqueue-encryption"


@dataclass(frozen=True)
class StoredObject:
    """An object as a listing shows it."""

    key: str
    stored_at: datetime


class ObjectStore:
    """One bucket of an S3 server. Thread-safe; connects at the first call.

    `encryption` is how the server must encrypt objects: `AES256`, `aws:kms`, or `none` to leave it to the server.
    `public_url` is where clinics reach the server, if elsewhere than we do.
    """

    def __init__(self, client, bucket: str, encryption: str, max_connections: int = 32, public_url: str | None = None):
        self._client, self._bucket, self._public_url = client, bucket, public_url
        self._contents = BucketContents(client, bucket)
        self._encryption = {} if encryption == "none" else {"ServerSideEncryption": encryption}
        self._connections = BoundedSemaphore(max_connections)
        self._breaker = CircuitBreaker(_TIMEOUTS, _PAUSE_AFTER_TIMEOUT_S, _LONGEST_CALL_S)
        # Asking first (Expect: 100-continue) costs more than sending a photograph to a server that then refuses it.
        client.meta.events.unregister("before-call.s3", add_expect_header)

    def put(self, key: str, data: bytes, media_type: str) -> None:
        """Store an object.

        Raises:
            Unavailable: the store cannot be reached or refuses.
        """
        with self._asking():
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data, ContentType=media_type, **self._encryption)

    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            ObjectMissing: there is no such object.
            Unavailable: the store cannot be reached; `ObjectInaccessible`: it refuses or times out.
        """
        return self._read(key, sys.maxsize, _LONGEST_CALL_S)

    def get_up_to(self, key: str, limit_bytes: int, within_s: float = _LONGEST_CALL_S) -> bytes:
        """Return an object's bytes; of one over the limit, only the first `limit_bytes` + 1.

        Raises: as `get` does.
        """
        return self._read(key, limit_bytes + 1, within_s)

    def _read(self, key: str, most_bytes: int, within_s: float) -> bytes:
        """Read an object's first bytes with one deadline: with a timeout per read, they could trickle in for ever.

        From urllib3's own stream: boto3's waits until as many bytes as were asked for have come.
        """
        data, until_s = BytesIO(), time.monotonic() + within_s
        with self._asking():
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            with answer["Body"] as stream:
                while chunk := stream.read1(min(_AT_ONCE_BYTES, most_bytes - data.tell())):
                    data.write(chunk)
                    if time.monotonic() > until_s:
                        raise aws_errors.ReadTimeoutError(endpoint_url=self._client.meta.endpoint_url)
            expected_bytes = min(answer.get("ContentLength", 0), most_bytes)
            if data.tell() < expected_bytes:
                raise aws_errors.IncompleteReadError(actual_bytes=data.tell(), expected_bytes=expected_bytes)
        return data.getvalue()

    def presign_post(self, key: str, media_type: str, max_bytes: int, valid_s: int) -> tuple[str, dict[str, str]]:
        """Return the URL and the fields of a form that uploads one object (S3's "POST policy").

        The server accepts it for `valid_s` seconds, and only with this key, media type, size and encryption. It does
        not inspect the bytes, and the form may be sent more than once.

        Raises:
            Unavailable: the credentials to sign with are missing.
        """
        fields = {"Content-Type": media_type}
        if self._encryption:
            fields["x-amz-server-side-encryption"] = self._encryption["ServerSideEncryption"]
        conditions = [*({name: value} for name, value in fields.items()), ["content-length-range", 1, max_bytes]]
        with _translated():
            post = self._client.generate_presigned_post(self._bucket, key, fields, conditions, valid_s)
        if self._public_url:
            return self._public_url.rstrip("/") + urlsplit(post["url"]).path, post["fields"]
        return post["url"], post["fields"]

    def erase_case(self, clinic_id: UUID, case_id: UUID) -> None:
        """Erase every object of a case, if there is any, with all its versions.

        Raises:
            Unavailable: the store cannot be reached; `ObjectInaccessible`: it refuses or times out.
        """
        with self._asking():
            self._contents.erase_under(f"{clinic_id}/{case_id}/")

    def walk(self) -> Iterator[Sequence[StoredObject]]:
        """Yield every object of the bucket, page by page; if it keeps versions, each of them, even of deleted objects.

        Raises:
            Unavailable: the store cannot be reached or refuses.
        """
        with self._asking():
            for page in self._contents.pages():
                yield [StoredObject(entry["Key"], entry["LastModified"]) for entry in page]

    def delete(self, key: str) -> None:
        """Erase one object with all its versions, if it is there.

        Raises:
            Unavailable: the store cannot be reached; `ObjectInaccessible`: it refuses or times out.
        """
        with self._asking():
            self._contents.erase(key)

    def check(self) -> None:
        """Raise `Unavailable` unless the bucket answers and our key may read it."""
        with self._asking():
            self._client.head_bucket(Bucket=self._bucket)

    def check_after(self, error: ObjectInaccessible) -> None:
        """Raise `Unavailable` if the whole store is away, and not only the object that the error is about."""
        if isinstance(error, ObjectTimedOut):
            self.check_after_timeout()

    def check_after_timeout(self) -> None:
        """Raise `Unavailable` if the store does not answer now either, and not only a single object timed out."""
        time.sleep(_PAUSE_AFTER_TIMEOUT_S)
        self.check()

    def check_encryption(self) -> None:
        """Store a probe as every object is stored. An unreachable store does not count as refusing.

        Raises:
            ConfigurationInvalid: the store refuses, or accepts the probe without confirming its encryption.
        """
        try:
            answer = self._client.put_object(Bucket=self._bucket, Key=ENCRYPTION_PROBE, Body=b"", **self._encryption)
            self._client.delete_object(Bucket=self._bucket, Key=ENCRYPTION_PROBE)
        except ClientError as error:
            raise self._refused(error.response["Error"]["Code"]) from error
        except (aws_errors.BotoCoreError, aws_errors.HTTPClientError):
            return
        if not self._encryption.items() <= answer.items():
            raise self._refused("it does not confirm the encryption")

    def _refused(self, reason: str) -> ConfigurationInvalid:
        wanted = self._encryption.get("ServerSideEncryption", "none")
        return ConfigurationInvalid(
            "s3_encryption_refused",
            f"The object store does not accept objects with DERMQUEUE_S3_ENCRYPTION={wanted} ({reason})."
            " Choose another encryption, or check the other DERMQUEUE_S3_* settings.",
        )

    def ensure_bucket(self) -> None:
        """Create the bucket if it is not there."""
        with self._asking():
            try:
                self._client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                self._create_bucket()

    def _create_bucket(self) -> None:
        region = self._client.meta.region_name
        # AWS accepts its first region only as the absence of a constraint.
        elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": region}} if region != "us-east-1" else {}
        try:
            self._client.create_bucket(Bucket=self._bucket, **elsewhere)
        except ClientError as error:
            if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":  # another process was faster
                raise

    @contextmanager
    def _asking(self) -> Iterator[None]:
        if not self._connections.acquire(timeout=_CONNECTION_WAIT_S):
            raise _away()
        try:
            with _translated(), self._breaker.guarding():
                yield
        finally:
            self._connections.release()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            raise ObjectMissing("object_missing", "A stored file of this case is missing.") from error
        detail = "The image store refused the request. Please try again."
        raise ObjectRefused("storage_unavailable", detail) from error
    except _AWAY as error:
        raise _away(ObjectTimedOut if isinstance(error, _BROKEN_OFF) else Unavailable) from error


def _away(kind: type[Unavailable] = Unavailable) -> Unavailable:
    return kind("storage_unavailable", "The image store cannot be reached right now. Please try again.")


def make_s3_client(settings: Settings, max_connections: int):
    """Make boto3's client; nothing connects until the first call.

    Raises:
        ConfigurationInvalid: `setting_malformed`: boto3 refuses the endpoint; `setting_missing`: half a key is set.
    """
    config = Config(
        signature_version="s3v4",  # or forms are signed with version 2, which KMS and newer regions refuse
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=max_connections,
        s3={"addressing_style": "path" if settings.s3_endpoint_url else "auto"},
        request_checksum_calculation="when_required",  # the signature already covers a SHA-256
    )
    try:
        return boto3.client(
            "s3",
            endpoint_url=settings.s3_endpoint_url,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key,
            aws_secret_access_key=settings.s3_secret_key.get_secret_value() if settings.s3_secret_key else None,
            config=config,
        )
    except aws_errors.PartialCredentialsError as error:
        keys = "DERMQUEUE_S3_ACCESS_KEY and DERMQUEUE_S3_SECRET_KEY"
        raise ConfigurationInvalid("setting_missing", f"Set both {keys}, or neither.") from error
    except ValueError as error:
        refused = "DERMQUEUE_S3_ENDPOINT_URL: a host's name may hold letters, digits, hyphens and dots alone."
        raise ConfigurationInvalid("setting_malformed", refused) from error


def open_object_store(settings: Settings, max_connections: int = 32) -> ObjectStore:
    """Open the bucket of the settings; nothing connects until the first call.

    max_connections: calls at the same time; a further one waits briefly and then fails.
    """
    client = make_s3_client(settings, max_connections)
    return ObjectStore(client, settings.s3_bucket, settings.s3_encryption, max_connections, settings.s3_public_url)
