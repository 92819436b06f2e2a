"""The base of schemas for headers and queries."""

from functools import cache

from pydantic import BaseModel


class Parameters(BaseModel):
    """A schema of headers or of a query. It caches its JSON schema, which the library asks for at every request."""

    @classmethod
    def model_json_schema(cls, *args, **options) -> dict:
        """Return the JSON schema; without options, as at every request, the cached one."""
        return super().model_json_schema(*args, **options) if args or options else cls._schema()

    @classmethod
    @cache
    def _schema(cls) -> dict:
        return super().model_json_schema()
