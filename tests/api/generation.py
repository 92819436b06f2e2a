"""What schemathesis must be told beside the OpenAPI document; it loads this into its own process."""

import io
import zipfile

import schemathesis
from hypothesis import strategies

from tests import images

BEYOND_A_SCHEMA = {
    "archive_unreadable",
    "cursor_malformed",
    "idempotency_key_reused",
    "image_type_unsupported",
    "precondition_malformed",
    "precondition_missing",
    "review_changed",
    "upload_digest_mismatch",
    "webhook_url_refused",
}
"""Codes of refusals that are right although the request is as the document says: it cannot tell what bytes mean, which
of two headers must be there, nor what was sent before."""


def _zip(photographs: list[bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, photograph in enumerate(photographs):
            archive.writestr(f"{number}.jpg", photograph)
    return file.getvalue()


_PHOTOGRAPHS = [data for data, _ in images.good_photographs().values()]
_FILES = strategies.sampled_from(_PHOTOGRAPHS) | strategies.just(_zip(_PHOTOGRAPHS[:2]))
schemathesis.openapi.format("binary", _FILES)


@schemathesis.hook
def filter_failure(context, failure, case, response) -> bool:
    """Keep a failure unless a request was refused for what only we can know, or came before the result was there."""
    if "ensure_resource_availability" in failure.checks:
        return not response.json()["code"].endswith("_not_ready")
    refused = "positive_data_acceptance" in failure.checks
    return not refused or response.json()["code"] not in BEYOND_A_SCHEMA


@schemathesis.hook
def filter_case(context, case) -> bool:
    """Leave out forms with both kinds of files: the document forbids them, but schemathesis judges no binary field."""
    return not (isinstance(case.body, dict) and {"image", "archive"} <= case.body.keys())
