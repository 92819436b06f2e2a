"""The rig with a bad network: clinics reach the API, and the system its S3 and its PostgreSQL, through proxies."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.embedded.program import find_free_port
from deploy.embedded.seaweed import PORT_OFFSETS, seaweed_program
from tests.faults.network.proxy import Proxy
from tests.faults.rig import Rig, put_together, servers_of_its_own
from tests.faults.sizes import BATCH_SIZE
from tests.servers.postgres import postgres_url

BUCKET, ACCESS_KEY, SECRET_KEY = "dermqueue", "faults", "faults-secret"


@dataclass(frozen=True)
class Proxies:
    """The rig's network. SQLite has none."""

    api: Proxy
    s3: Proxy
    sql: Proxy | None


@pytest.fixture(scope="package")
def proxies(rig) -> Proxies:
    return rig.proxies


@pytest.fixture(scope="package", params=["embedded", "postgresql"])
def rig(request, outcomes) -> Iterator[Rig]:
    """The system on SQLite and its own broker; and on a PostgreSQL and a broker that it is only told by URL.

    Leases are as long as usual, and so longer than the timeouts. The API's threads are few, so that few can block it.
    """
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="dermqueue-faults-")))
        folder.chmod(0o755)  # PostgreSQL, which does not run as root, must reach it
        s3_port = find_free_port(PORT_OFFSETS)
        programs = [seaweed_program(folder, s3_port, ACCESS_KEY, SECRET_KEY, BUCKET)]
        s3, sql = resources.enter_context(Proxy(s3_port)), None
        variables = {
            "DERMQUEUE_LEASE_S": "60",
            "DERMQUEUE_BATCH_SIZE": str(BATCH_SIZE),
            "DERMQUEUE_API_PROCESSES": "1",
            "DERMQUEUE_API_THREADS": "8",
            "DERMQUEUE_S3_BUCKET": BUCKET,
            "DERMQUEUE_S3_ENDPOINT_URL": s3.url,
            "DERMQUEUE_S3_ACCESS_KEY": ACCESS_KEY,
            "DERMQUEUE_S3_SECRET_KEY": SECRET_KEY,
        }
        if request.param == "postgresql":
            own, sql_port, variables["DERMQUEUE_BROKER_URL"] = servers_of_its_own(folder)
            programs += own
            sql = resources.enter_context(Proxy(sql_port))
            variables["DERMQUEUE_DATABASE_URL"] = postgres_url(sql.port)
        running = put_together(resources, request.param, folder, programs, variables, outcomes)
        api = resources.enter_context(Proxy(urlsplit(running.stack.connection["base_url"]).port))
        running.proxies = Proxies(api, s3, sql)
        yield running
