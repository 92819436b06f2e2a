"""How our processes write their logs: lines for people, or one JSON object per line. All to stderr."""

import json
import logging
import re
import sys
from datetime import UTC, datetime

from celery.signals import setup_logging

from shared.log_ids import logged_ids

_TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s%(ids)s"
_EVENT = re.compile(r"\w+(?: \w+=%[sd])*")
"""Our own messages: a constant name and fields."""

_FIELD = re.compile(r"(\w+)=%")
_ALWAYS = "worker.housekeeping"
"""Once a day it logs the audit trail's newest hash, the only copy outside the database: at any level."""
_NOISY = ("httpx", "botocore", "boto3", "urllib3", "alembic")


def set_up_logging(level: str, kind: str) -> None:
    """Log everything in this process from `level` upwards, and what the housekeeping did, as `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_ids)
    handler.setFormatter(JsonLines() if kind == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    setup_logging.connect(_leave_it, weak=False)
    logging.getLogger(_ALWAYS).setLevel(logging.INFO)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _leave_it(**_) -> None:
    """Celery sets up logging itself unless this signal has a receiver."""


def _add_ids(record: logging.LogRecord) -> bool:
    record.ids = "".join(f" {name}={value}" for name, value in logged_ids().items())
    return True


class JsonLines(logging.Formatter):
    """Writes `at` (UTC), `level`, `logger`, the ids, and `event` with its fields; others' records have a `message`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **logged_ids(),
            **_describe(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _describe(record: logging.LogRecord) -> dict:
    template = str(record.msg)
    if not _EVENT.fullmatch(template):
        return {"message": record.getMessage()}
    return {"event": template.split()[0], **dict(zip(_FIELD.findall(template), record.args or (), strict=True))}
