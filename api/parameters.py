"""What comes in a request's headers and query."""

from functools import cache

from pydantic import BaseModel


class Parameters(BaseModel):
    """A schema of headers or of a query. The library makes the JSON schema of these anew at every request."""

    @classmethod
    def model_json_schema(cls, *args, **options) -> dict:
        """Return the JSON schema; in the form that is asked for at every request, always the same one."""
        return super().model_json_schema(*args, **options) if args or options else cls._schema()

    @classmethod
    @cache
    def _schema(cls) -> dict:
        return super().model_json_schema()
