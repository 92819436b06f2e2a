"""A program that the supervisor keeps alive, and what every program needs: its binary and a free port."""

import random
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from shared.errors import ConfigurationInvalid

# Below Linux's ephemeral range (32768 to 60999), and so is each port + 10000: no outgoing connection can occupy such a
# port while a stack that remembers it is down. In steps of as many ports as one server takes.
CANDIDATE_PORTS = range(15_000, 22_000, 5)


@dataclass(frozen=True)
class Program:
    """What to start, how to tell that it is ready, how to stop it.

    `env` is the child's complete environment: nothing is inherited. `is_ready` is cheap and returns False for "not
    yet"; without one, the next program does not wait and no event says that this one is ready. `is_broken` gets what
    the program logs once it is ready, and returns whether to restart it. `user_id` is the user to run as, which only
    root may choose.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    is_ready: Callable[[], bool] | None = None
    is_broken: Callable[[str], bool] | None = None
    start_timeout_s: float = 60.0
    stop_timeout_s: float = 10.0
    stop_signal: signal.Signals = signal.SIGTERM
    user_id: int | None = None


def packaged_binary(distribution: str, name: str) -> Path:
    """Find the executable `name` where pip put it.

    Raises:
        ConfigurationInvalid: `program_missing`.
    """
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError as error:
        raise ConfigurationInvalid(
            "program_missing", f"The package {distribution} is not installed: pip install 'dermqueue[worker,embedded]'"
        ) from error
    for file in files:
        if file.name == name:
            return Path(file.locate()).resolve()
    raise ConfigurationInvalid("program_missing", f"The package {distribution} has no {name} for this machine.")


def find_free_port(offsets: Iterable[int] = (0,)) -> int:
    """Find a port that is free together with the ports at the given offsets from it, on 127.0.0.1.

    It is found once: until this process ends, it holds the UDP port of that number, which no server here uses. So two
    stacks that start at once choose different ports, though nothing listens yet.
    """
    offsets = tuple(offsets)
    for port in random.sample(CANDIDATE_PORTS, len(CANDIDATE_PORTS)):  # nosec B311  # a port is no secret
        if all(is_free(port + offset) for offset in offsets) and _reserve(port):
            return port
    raise ConfigurationInvalid("no_free_port", "This machine has no free port left for an embedded server.")


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of 127.0.0.1."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: closed connections occupy no port
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _reserve(port: int) -> bool:
    mark = socket.socket(type=socket.SOCK_DGRAM)
    try:
        mark.bind(("127.0.0.1", port))
    except OSError:
        mark.close()
        return False
    mark.detach()  # the descriptor stays open for as long as this process lives
    return True
