"""Logs: one JSON object a line on stderr, so that a scheduler's journal can be searched; secrets are masked."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType

from kstock_batch.redaction import redacted, redacted_values

_OWN = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """Formats a record with whatever ``extra`` it carries (run_id, as_of, stage, rows, seconds)."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        row: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        row |= {key: value for key, value in record.__dict__.items() if key not in _OWN}
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(redacted_values(row), ensure_ascii=False, default=lambda value: redacted(str(value)))


def configure(*, verbose: bool) -> None:
    """Send our own logs to stderr: warnings, or with ``verbose`` each stage."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    ours = logging.getLogger("kstock_batch")
    ours.handlers = [handler]
    ours.setLevel(logging.INFO if verbose else logging.WARNING)
    ours.propagate = False


def show_traceback(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    """Show what ends the program, a mistake of ours, as Python does, but without secrets: a ``sys.excepthook``."""
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, at))))
