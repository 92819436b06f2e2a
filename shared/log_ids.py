"""Ids that every log line carries: the request's, and that of the case submitted with it, in the worker as well."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_IDS: ContextVar[Mapping[str, str]] = ContextVar("ids", default={})  # noqa: B039 (never mutated)


@contextmanager
def logged_with(**ids: object) -> Iterator[None]:
    """Add ids to everything that this thread logs inside the block; those that are None are left out."""
    token = _IDS.set({**_IDS.get(), **{name: str(value) for name, value in ids.items() if value is not None}})
    try:
        yield
    finally:
        _IDS.reset(token)


def logged_ids() -> Mapping[str, str]:
    """Return this thread's current ids."""
    return _IDS.get()


def make_traceparent() -> str | None:
    """Return this request's W3C trace context, which carries its id to the worker; None outside a request."""
    request_id = logged_ids().get("request_id")
    return request_id and f"00-{request_id}-{secrets.token_hex(8)}-00"


def request_of(traceparent: str | None) -> str | None:
    """Return the id of the request that made a trace context."""
    return traceparent and traceparent.split("-")[1]
