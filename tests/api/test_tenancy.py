"""Who may do what: every route, for everybody who could call it, on everything that they could ask for."""

import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import pytest
from werkzeug.test import TestResponse

from shared.database import read_clock
from shared.domain import Role
from shared.settings import Settings
from shared.storage import open_object_store
from shared.store import access
from tests.api.calls import JPEG, Api
from tests.api.estates import Estate

TABLE = """
                                                  no valid key | clinic: own, not | reviewer: is, not | admin: is, not
GET    /                                        | 302          | 302              | 302               | 302
GET    /docs                                    | 302          | 302              | 302               | 302
GET    /docs/swagger                            | 200          | 200              | 200               | 200
GET    /docs/swagger/{filename}                 | 200          | 200              | 200               | 200
GET    /docs/oauth2-redirect.html               | 200          | 200              | 200               | 200
GET    /openapi.json                            | 200          | 200              | 200               | 200
GET    /healthz                                 | 200          | 200              | 200               | 200
GET    /readyz                                  | 200          | 200              | 200               | 200
GET    /metrics                                 | 401          | 403              | 403               | 200
GET    /v1/models/current                       | 401          | 200              | 200               | 200
POST   /v1/cases                                | 401          | 202              | 403               | 403
POST   /v1/cases {upload_id}                    | 401          | 202 404 400      | 403               | 403
GET    /v1/cases                                | 401          | 200              | 200               | 403
GET    /v1/cases/{case_id}                      | 401          | 200 404          | 200 404           | 403
DELETE /v1/cases/{case_id}                      | 401          | 202 404          | 403               | 403
POST   /v1/cases/{case_id}/cancel               | 401          | 202 404          | 403               | 403
GET    /v1/cases/{case_id}/image                | 401          | 200 404          | 200 404           | 403
GET    /v1/cases/{case_id}/heatmap              | 401          | 200 404          | 200 404           | 403
GET    /v1/cases/{case_id}/report               | 401          | 200 404          | 200 404           | 403
POST   /v1/uploads                              | 401          | 201              | 403               | 403
POST   /v1/submissions                          | 401          | 202              | 403               | 403
GET    /v1/submissions/{submission_id}          | 401          | 200 404          | 403               | 403
GET    /v1/worklist                             | 401          | 403              | 200               | 403
GET    /v1/worklist?clinic_id={clinic_id}       | 401          | 403              | 200 200 400       | 403
GET    /v1/worklist/clinics                     | 401          | 403              | 200               | 403
GET    /v1/cases/{case_id}/review               | 401          | 403              | 200 404           | 403
PUT    /v1/cases/{case_id}/review               | 401          | 403              | 200 404           | 403
POST   /v1/cases/{case_id}/open                 | 401          | 403              | 200 404           | 403
GET    /v1/admin/audit                          | 401          | 403              | 403               | 200
GET    /v1/admin/audit?case_id={case_id}        | 401          | 403              | 403               | 200 200 400
GET    /v1/admin/failed                         | 401          | 403              | 403               | 200
POST   /v1/admin/failed/{case_id}/requeue       | 401          | 403              | 403               | 202 404
GET    /v1/webhooks                             | 401          | 200              | 403               | 403
POST   /v1/webhooks                             | 401          | 201              | 403               | 403
DELETE /v1/webhooks/{webhook_id}                | 401          | 204 404          | 403               | 403
POST   /v1/webhooks/{webhook_id}/enable         | 401          | 204 404          | 403               | 403
GET    /v1/admin/webhooks                       | 401          | 403              | 403               | 200
GET    /v1/admin/queue                          | 401          | 403              | 403               | 200
GET    /v1/admin/clinics                        | 401          | 403              | 403               | 200
POST   /v1/admin/clinics                        | 401          | 403              | 403               | 201
PATCH  /v1/admin/clinics/{clinic_id}            | 401          | 403              | 403               | 200 404
GET    /v1/admin/keys                           | 401          | 403              | 403               | 200
POST   /v1/admin/keys                           | 401          | 403              | 403               | 201
POST   /v1/admin/keys {clinic_id}               | 401          | 403              | 403               | 201 404 400
POST   /v1/admin/keys/{key_id}/rotate           | 401          | 403              | 403               | 201 404
POST   /v1/admin/keys/{key_id}/revoke           | 401          | 403              | 403               | 204 404
"""
"""The answers to each role: for what is there for it, for what is not, and, if that differs, for a malformed id.

HEAD answers as GET does; OPTIONS tells the methods to those who may call one of them; other methods get 405.
"""

NO_VALID_KEY = ("no key", "a wrong key", "a revoked key", "an expired key")
CLINICS = ("one clinic's key", "the other clinic's key")
COLUMN_OF = dict.fromkeys(NO_VALID_KEY, 0) | dict.fromkeys(CLINICS, 1) | {"a reviewer's key": 2, "an admin's key": 3}
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
METHODS = (*SAFE_METHODS, "POST", "PUT", "PATCH", "DELETE")
PLACES = ("own", "foreign", "deleted", "unknown", "malformed")
"""For reviewers and admins, who own nothing, `own` and `foreign` are the two clinics'."""

STATE_NEEDED = {"cancel": "queued", "requeue": "failed"}
"""What may be done only in one state; all else is tried on a case with a result, which has the most to give away."""

BODIES = {
    "POST /v1/cases": lambda _: {"data": {"image": (io.BytesIO(JPEG), "lesion.jpg")}},
    "POST /v1/cases {upload_id}": lambda upload_id: {"json": {"upload_id": upload_id}},
    "PUT /v1/cases/{case_id}/review": lambda _: {"json": {"verdict": "agree"}, "headers": {"If-None-Match": "*"}},
    "POST /v1/admin/clinics": lambda _: {"json": {"name": f"Clinic {uuid4()}"}},
    "PATCH /v1/admin/clinics/{clinic_id}": lambda _: {"json": {"waiting_limit": 500}},
    "POST /v1/admin/keys": lambda _: {"json": {"role": "reviewer"}},
    "POST /v1/admin/keys {clinic_id}": lambda clinic_id: {"json": {"role": "clinic", "clinic_id": clinic_id}},
    "POST /v1/admin/keys/{key_id}/rotate": lambda _: {"json": {}},
    "POST /v1/webhooks": lambda _: {"json": {"url": "https://clinic.example/hook"}},
    "POST /v1/uploads": lambda _: {"json": {"media_type": "image/jpeg"}},
    "POST /v1/submissions": lambda _: {"data": {"image": (io.BytesIO(JPEG), "lesion.jpg")}},
}


def read_table() -> dict[str, list[list[int]]]:
    """Return the cells of each route; what stands in braces after an address is asked for in the body."""
    rows = (line.split("|") for line in TABLE.splitlines() if "/" in line)
    return {
        " ".join(route.split()): [[int(status) for status in cell.split()] for cell in cells] for route, *cells in rows
    }


ANSWERS = read_table()


def kind_in(address: str) -> str | None:
    """Return the kind of the id that is asked for at an address."""
    found = re.search(r"{(\w+_id)}", address)
    return found and found[1]


@dataclass(frozen=True)
class Call:
    """One combination of a route, somebody who calls it and something that they ask for."""

    method: str
    address: str
    caller: str
    place: str

    def __str__(self) -> str:
        return f"{self.method} {self.address} with {self.caller} on what is {self.place}"

    @property
    def expected(self) -> set[int]:
        """The statuses that the table allows."""
        if self.method == "OPTIONS":
            needs_key = self.address.startswith("/v1/")
            return {401} if needs_key and self.caller in NO_VALID_KEY else {200, 403}
        cells = ANSWERS.get(f"{self.method.replace('HEAD', 'GET')} {self.address}")
        if cells is None:
            return {405}
        statuses = cells[COLUMN_OF[self.caller]]
        is_there = self.place == "own" or (self.place == "foreign" and self.caller not in CLINICS)
        return {statuses[0] if is_there else statuses[-1] if self.place == "malformed" else statuses[:2][-1]}

    @property
    def is_refused(self) -> bool:
        return min(self.expected) >= 400


class Walk:
    """Makes every call and keeps, each as a sentence, what was not as it should be."""

    def __init__(self, callers: dict[str, Api], estates: tuple[Estate, Estate], everything: Callable[[], tuple]):
        self._callers, self._estates, self._everything = callers, estates, everything
        self.faults: list[str] = []
        self.walked = self.foreign_reads = 0
        self._known: tuple | None = None

    def go(self) -> None:
        for address in dict.fromkeys(route.partition(" ")[2] for route in ANSWERS):
            places = PLACES if kind_in(address) else PLACES[:1]
            for method in METHODS if " " not in address else ("POST",):
                self._try([Call(method, address, caller, place) for caller in COLUMN_OF for place in places])

    def _try(self, calls: list[Call]) -> None:
        """Make all calls of one method and address: first those that must be refused."""
        things = {call: self._find(call) for call in calls}
        before = self._known or self._everything()
        answers = {call: self._send(call, things[call]) for call in calls if call.is_refused}
        after = self._everything()
        if after != before:
            self.faults.append(f"A refused {calls[0].method} {calls[0].address} has changed something.")
        self._known = after if len(answers) == len(calls) else None
        self._compare_refusals(answers)
        answers |= {call: self._send(call, things[call]) for call in calls if not call.is_refused}
        for call, answer in answers.items():
            self._check(call, answer)
        if calls[0].method not in SAFE_METHODS and not all(call.is_refused for call in calls):
            for estate in self._estates:
                estate.renew()

    def _find(self, call: Call) -> str:
        """Return the id to ask for, or nothing where none is asked for."""
        kind = kind_in(call.address)
        if not kind:
            return ""
        mine, theirs = (estate.things[kind] for estate in self._sides(call))
        state = STATE_NEEDED.get(call.address.rsplit("/", 1)[1], "usual")
        unknown = str(uuid4())
        return {
            "own": mine[state],
            "foreign": theirs[state],
            "deleted": mine.get("deleted", unknown),
            "unknown": unknown,
            "malformed": "7",
        }[call.place]

    def _sides(self, call: Call) -> tuple[Estate, Estate]:
        return self._estates[::-1] if call.caller == CLINICS[1] else self._estates

    def _send(self, call: Call, thing: str) -> TestResponse:
        self.walked += 1
        address = re.sub(r"{\w+_id}", thing, call.address.split()[0]).format(filename="css/swagger-ui.css")
        body = BODIES.get(f"{call.method} {call.address}", lambda _: {})(thing)
        with self._callers[call.caller].call(call.method, address, **body) as answer:
            assert answer.data is not None  # reads a file that is sent bit by bit
            return answer

    def _compare_refusals(self, answers: dict[Call, TestResponse]) -> None:
        """Whatever is refused with the same status is refused in the same words: nobody learns what there is."""
        looks = defaultdict(dict)
        for call, answer in answers.items():
            headers = [(name, value) for name, value in answer.headers if name not in ("Date", "X-Request-Id")]
            first, look = looks[call.caller].setdefault(answer.status, (call, (headers, answer.data)))
            if look != (headers, answer.data):
                self.faults.append(f"{call} can be told from what is {first.place}.")

    def _check(self, call: Call, answer: TestResponse) -> None:
        if answer.status_code not in call.expected:
            self.faults.append(f"{call} is answered {answer.status_code}; the table says {call.expected}.")
        text = str(answer.headers).encode() + answer.data
        if any(mark in text for mark in self._secret_from(call, answer)):
            self.foreign_reads += 1
            self.faults.append(f"{call} tells what it must not.")

    def _secret_from(self, call: Call, answer: TestResponse) -> Iterator[bytes]:
        """Yield what this answer must not hold: of a clinic that the caller may not see, everything."""
        mine, theirs = self._sides(call)
        if answer.status_code >= 400 or call.caller in NO_VALID_KEY:
            visible = ()
        elif call.caller in CLINICS:
            visible = (mine,)
        elif kind_in(call.address):
            visible = {"own": (mine,), "deleted": (mine,), "foreign": (theirs,)}.get(call.place, ())
        else:
            visible = (mine, theirs)
        for estate in self._estates:
            if estate not in visible:
                yield from estate.ids
            if estate not in visible or call.caller == "an admin's key":
                yield from estate.private


@pytest.fixture
def settings(database_url, servers) -> Settings:
    """The suite's servers with a bucket of this test's own, and no limit on how often one may be refused."""
    bucket = {"s3_bucket": f"tenancy-{uuid4()}"}
    settings = Settings(_env_file=None, database_url=database_url, wrong_keys_per_minute=10**9, **servers | bucket)
    open_object_store(settings).ensure_bucket()
    return settings


@pytest.fixture
def callers(client, clinic, other_clinic, reviewer, admin, database) -> dict[str, Api]:
    with database.writing() as session:
        now = read_clock(session)
        revoked, expired = (
            access.add_key(session, Role.CLINIC, clinic.id, now, expires_at).key
            for expires_at in (None, now - timedelta(seconds=1))
        )
        access.revoke_key(session, revoked, now)
    keyless = [Api(client, key) for key in (None, clinic.key[:-1], revoked, expired)]
    return dict(zip(COLUMN_OF, [*keyless, clinic, other_clinic, reviewer, admin], strict=True))


@pytest.fixture
def everything(rows, s3, settings, rung) -> Callable[[], tuple]:
    """Look at all that a call can change."""

    def look() -> tuple:
        listing = s3.list_objects_v2(Bucket=settings.s3_bucket).get("Contents", [])
        return rows(), {found["Key"]: found["ETag"] for found in listing}, rung()

    return look


def test_everybody_gets_what_the_table_says_and_nothing_else(
    callers, clinic, other_clinic, database, store, everything
):
    estates = (Estate(clinic, database, store, side=96), Estate(other_clinic, database, store, side=112))
    walk = Walk(callers, estates, everything)
    walk.go()
    print(f"{walk.walked} combinations, {walk.foreign_reads} foreign reads")
    assert not walk.faults, "\n".join([f"{len(walk.faults)} of {walk.walked}:", *walk.faults])
    assert walk.foreign_reads == 0
    assert walk.walked > 2000


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_table_names_every_route_and_nothing_else(app, client):
    served = {
        f"{method} " + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        if not rule.rule.startswith("/app")  # the pages have a table of their own
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    document = client.get("/openapi.json").json
    described = {
        f"{method.upper()} {path}{asked}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for asked in ["", *ids_asked_for(operation, document["components"]["schemas"])]
    }
    unnamed, invented = sorted((described | served) - set(ANSWERS)), sorted(set(ANSWERS) - described - served)
    assert not unnamed, f"Say in TABLE who may call {unnamed}."
    assert not invented, f"TABLE says who may call {invented}, which is no route."


def ids_asked_for(operation: dict, schemas: dict) -> Iterator[str]:
    """Yield how TABLE writes each id that an operation takes outside its path."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query" and parameter["name"].endswith("_id"):
            yield f"?{parameter['name']}={{{parameter['name']}}}"
    for content in operation.get("requestBody", {}).get("content", {}).values():
        for name in schemas[content["schema"]["$ref"].rsplit("/", 1)[1]]["properties"]:
            if name.endswith("_id"):
                yield f" {{{name}}}"
