"""An HTTP client of the API, as a clinic's own software would be written."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import httpx

from deploy.stack import CONNECTION
from shared.domain import State
from shared.errors import ConfigurationInvalid, DermQueueError
from shared.settings import refuse_unknown_variables

_TRIES = 6
_MAY_PASS = (408, 429, 502, 503, 504)
"""408: the connection was interrupted. 502 and 504 come from a proxy while the service behind it restarts."""

_PICTURES = ("image/png", "application/octet-stream")
_LONGEST_PAUSE_S = 10.0
_WAIT_S = 5


class Refused(DermQueueError):
    """The API answered with a problem; code and sentence are the API's."""


class Unanswered(Refused):
    """No answer came, or only that something failed: what was asked for may have been done."""


@dataclass(frozen=True)
class Connection:
    """The API's address and the key to use."""

    base_url: str
    key: str


def find_connection(url: str | None, key: str | None, data_dir: Path) -> Connection:
    """Return the given address and key, or those that a local stack wrote; its key is for its own address alone.

    Raises:
        ConfigurationInvalid: `connection_missing`: there is neither; `key_missing`; `url_malformed`; `key_malformed`;
            `setting_unknown`: see `refuse_unknown_variables`.
    """
    refuse_unknown_variables()
    if url and not key:
        raise ConfigurationInvalid("key_missing", f"{url} needs an API key, too: set --key or DERMQUEUE_KEY.")
    if not url:
        path = data_dir / CONNECTION
        if not path.exists():
            raise ConfigurationInvalid(
                "connection_missing",
                f"No stack runs in {data_dir}. Start one with `dermqueue up`, or set DERMQUEUE_URL and DERMQUEUE_KEY.",
            )
        local = json.loads(path.read_text())
        url, key = local["base_url"], key or local["clinic_key"]
    _refuse_malformed(url, key)
    return Connection(url.rstrip("/"), key)


def _refuse_malformed(url: str, key: str) -> None:
    try:
        parts = httpx.URL(url)
        is_web_address = parts.scheme in ("http", "https") and parts.host and (parts.port or 1) <= 65535
    except (httpx.InvalidURL, UnicodeError):
        is_web_address = False
    if not is_web_address:
        raise ConfigurationInvalid(
            "url_malformed",
            "The API's address (--url or DERMQUEUE_URL) must be a URL such as https://dermqueue.example or"
            " http://127.0.0.1:8000.",
        )
    if not re.fullmatch("[!-~]+", key):
        raise ConfigurationInvalid(
            "key_malformed",
            "The key (--key or DERMQUEUE_KEY) holds a space, a line's end or a letter that no key has. Copy it again.",
        )


class Client:
    """Calls the API. Every call is retried when the network or the service is away for a moment.

    A clinic that has reached its limit of waiting cases is not refused: the call waits for room, however long.
    """

    def __init__(self, connection: Connection):
        self._http = httpx.Client(
            base_url=connection.base_url,
            headers={"Authorization": f"Bearer {connection.key}"},
            timeout=httpx.Timeout(30, connect=5),
            trust_env=False,
        )
        self._stopped = Event()

    def submit(self, file: Path, **fields: str) -> dict:
        """Submit one photograph; sent again after a lost answer, it is still one case."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        files = {"image": file.read_bytes()}  # without its name, which may not be UTF-8
        return self._call("POST", "/v1/cases", headers=headers, data=fields, files=files).json()

    def read_case(self, case_id: str, wait_s: int = 0) -> dict:
        """Read a case, waiting up to `wait_s` for its end."""
        headers = {"Prefer": f"wait={wait_s}"} if wait_s else {}
        response = self._call("GET", f"/v1/cases/{case_id}", headers=headers)
        if wait_s and "Preference-Applied" not in response.headers:  # too many wait already
            self._pause(_pause_asked_s(response))
        return response.json()

    def list_cases(self, limit: int) -> list[dict]:
        """List the newest cases."""
        return self._call("GET", "/v1/cases", params={"limit": limit}).json()["cases"]

    def read_heatmap(self, case_id: str, class_name: str = "melanoma", style: str = "overlay") -> bytes:
        """Fetch a heatmap: PNG, or .npy for the style `raw`."""
        asked = {"class": class_name, "style": style}
        return self._call("GET", f"/v1/cases/{case_id}/heatmap", media_types=_PICTURES, params=asked).content

    def read_report(self, case_id: str) -> bytes:
        """Fetch a case's result as one page of PDF."""
        return self._call("GET", f"/v1/cases/{case_id}/report", media_types=("application/pdf",)).content

    def follow(self, case_ids: list[str], before_each_poll: Callable[[], None] = lambda: None) -> Iterator[dict]:
        """Yield each case as it reaches its final state. A poll lasts some seconds at the most."""
        pending = list(case_ids)
        while pending:
            before_each_poll()
            first, *others = pending
            cases = [self.read_case(first, wait_s=_WAIT_S), *(self.read_case(case_id) for case_id in others[:20])]
            for case in cases:
                if State(case["state"]).is_final:
                    pending.remove(case["id"])
                    yield case

    def stop(self) -> None:
        """Make waiting calls give up; to be called from another thread, or after Ctrl-C."""
        self._stopped.set()

    def _call(
        self, method: str, address: str, media_types: tuple[str, ...] = ("application/json",), **request
    ) -> httpx.Response:
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._http.request(method, address, **request)
            except httpx.TransportError as error:
                if attempt == _TRIES:
                    raise Unanswered("api_unreachable", f"The API does not answer: {error}.") from error
                pause_s = min(0.5 * 2**attempt, _LONGEST_PAUSE_S)
            else:
                asked_s = _pause_asked_s(response)
                pause_s = min(asked_s, _LONGEST_PAUSE_S)
                if _wants_room(response):  # which there is once some of the clinic's cases are finished
                    attempt, pause_s = 0, asked_s
                elif response.status_code not in _MAY_PASS or attempt == _TRIES:
                    return _checked(response, media_types)
            self._pause(pause_s)

    def _pause(self, pause_s: float) -> None:
        if self._stopped.wait(pause_s):
            raise Unanswered("interrupted", "The call was interrupted.")


def _pause_asked_s(response: httpx.Response) -> float:
    """Return `Retry-After` in seconds; a proxy may name a date instead (RFC 9110, 10.2.3), treated as 1 s."""
    asked = response.headers.get("Retry-After", "1")
    return float(asked) if asked.isdecimal() else 1.0


def _wants_room(response: httpx.Response) -> bool:
    return response.status_code == 429 and _problem(response).get("code") == "quota_exceeded"


def _checked(response: httpx.Response, media_types: tuple[str, ...]) -> httpx.Response:
    if response.is_success:
        if not response.headers.get("Content-Type", "").startswith(media_types):
            raise Refused("not_dermqueue", "What answers there is not DermQueue's API. Check --url or DERMQUEUE_URL.")
        return response
    kind = Unanswered if response.is_server_error else Refused
    if problem := _problem(response):
        raise kind(problem["code"], problem["detail"])
    detail = f"The API answered {response.status_code}."
    if response.has_redirect_location:
        detail += f" It is at {response.headers['Location']}: change --url or DERMQUEUE_URL."
    raise kind(f"http_{response.status_code}", detail)


def _problem(response: httpx.Response) -> dict:
    is_problem = response.headers.get("Content-Type", "").startswith("application/problem+json")
    return response.json() if is_problem else {}
