"""Pagination: cursors, and the `Link` header that names the next page."""

import base64
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlencode

from flask import Response
from pydantic import BaseModel

from shared.errors import RequestInvalid

Place = TypeVar("Place")


def write_cursor(place: bytes) -> str:
    """Encode a place in a list as a cursor that is safe in a URL."""
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def read_cursor(cursor: str | None, parse: Callable[[bytes], Place]) -> Place | None:
    """Decode a client's cursor; return None if there is none.

    parse: reads what was passed to `write_cursor`; raises ValueError or OverflowError on anything else.

    Raises:
        RequestInvalid: `cursor_malformed`.
    """
    if cursor is None:
        return None
    try:
        return parse(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
    except (ValueError, OverflowError) as error:
        raise RequestInvalid("cursor_malformed", "This cursor is invalid. Follow the `next` link unchanged.") from error


def link_to_next(response: Response, address: str, query: BaseModel, cursor: str | None) -> None:
    """Name the next page of the list at this address, if there is one, in the `Link` header (RFC 8288)."""
    if cursor is not None:
        asked = query.model_dump(mode="json", exclude_none=True) | {"cursor": cursor}
        response.headers["Link"] = f'<{address}?{urlencode(asked)}>; rel="next"'
