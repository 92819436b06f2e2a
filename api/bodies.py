"""Reads request bodies, keeping every field as the client wrote it; the library would turn the text "007" into 7."""

import io
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, wraps
from tempfile import SpooledTemporaryFile
from typing import IO, get_origin

from flask import Request, Response, request
from pydantic import BaseModel, ValidationError

from api.problems import checked, raise_invalid_field
from shared.errors import RequestInvalid, Unavailable

FORM, JSON = "multipart/form-data", "application/json"
_JSON_BYTES = 64 * 1024
_SPOOLED_IN_MEMORY_BYTES = 512 * 1024

CheckNames = Callable[[list[str]], None]
"""Checks the names of all fields sent, and raises RequestInvalid where it has a clearer message than the schema."""


def reads_body(
    *, form: type[BaseModel] | None = None, check_names: CheckNames | None = None, json: type[BaseModel] | None = None
) -> Callable:
    """Pass the view its body as `sent`, validated by the schema of its media type; `/docs` shows both types.

    `view.with_body(sent=…)` calls the view with a body that was read already.
    """
    bodies = {kind: schema for kind, schema in ((FORM, form), (JSON, json)) if schema}

    def decorate(view: Callable) -> Callable:
        @wraps(view)
        def read(**arguments) -> Response:
            if request.mimetype not in bodies:
                hint = " with the photograph in a file field named 'image'" if form else ""
                raise RequestInvalid("content_type_unsupported", f"Send {' or '.join(bodies)}{hint}. See /docs.")
            return view(
                sent=_read_json(json) if request.mimetype == JSON else _read_form(form, check_names), **arguments
            )

        read.bodies, read.with_body = bodies, view
        return read

    return decorate


def _read_json(schema: type[BaseModel]) -> BaseModel:
    request.max_content_length = _JSON_BYTES
    try:
        return schema.model_validate_json(request.get_data(cache=False))
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise RequestInvalid("json_malformed", "The body is not valid JSON.") from error
        raise_invalid_field(error)


def _read_form(schema: type[BaseModel], check_names: CheckNames) -> BaseModel:
    if not request.mimetype_params.get("boundary"):
        raise RequestInvalid(
            "boundary_missing",
            "The Content-Type has no boundary. Let your HTTP library set this header along with the body.",
        )
    sent = [(name or "", value) for part in (request.form, request.files) for name, value in part.items(multi=True)]
    names = [name for name, _ in sent]
    check_names(names)
    lists = {name for name, field in schema.model_fields.items() if get_origin(field.annotation) is list}
    if repeated := sorted(name for name in set(names) - lists if names.count(name) > 1):
        raise RequestInvalid("field_repeated", f"The field {repeated[0]!r} was sent more than once.")
    return checked(schema, dict(sent) | {name: request.files.getlist(name) for name in lists})


class SpoolingRequest(Request):
    """Keeps all files of a form in one temporary file; hundreds of temporary files would be too many to hold open."""

    @cached_property
    def _spool(self) -> IO[bytes]:
        return SpooledTemporaryFile(_SPOOLED_IN_MEMORY_BYTES)

    def _get_file_stream(self, *_, **__) -> IO[bytes]:
        return _Section(self._spool)

    def close(self) -> None:
        super().close()
        if "_spool" in self.__dict__:
            with suppress(OSError):  # the disk has no room for what is still buffered
                self._spool.close()


class _Section(io.BufferedIOBase):
    """A section of a shared file. It is written at the end, before the next one begins, and then read."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._start = file.seek(0, io.SEEK_END)
        self._size = self._position = 0

    def write(self, data: bytes) -> int:
        """Append to the section.

        Raises:
            Unavailable: `storage_unavailable`: the disk that holds files until they are processed is full.
        """
        try:
            self._file.seek(self._start + self._size)
            self._size += self._file.write(data)
            self._file.flush()  # a full disk is noticed here, and not by whoever reads
        except OSError as error:
            raise Unavailable(
                "storage_unavailable", "No room for the upload at the moment. Please try again."
            ) from error
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._position)
        self._file.seek(self._start + self._position)
        data = self._file.read(left if size is None or size < 0 else min(size, left))
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = (0, self._position, self._size)[whence] + offset
        if position < 0:
            raise OSError("before the beginning of the file")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True
