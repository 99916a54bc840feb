"""Logs: what happened on the way, for a person as sentences, for a journal that is searched as lines of JSON."""

import json
import logging
import sys
import traceback
from collections.abc import Callable
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


class Told(logging.Handler):
    """Tells each record as a person reads it, by whatever prints such lines: ``warning: …``."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it; whoever has closed the pipe must not end the night."""
        try:
            self._tell(f"{record.levelname.lower()}: {record.getMessage()}")
        except OSError:
            self.handleError(record)


def configure(*, verbose: bool, tell: Callable[[str], None]) -> None:
    """Have our own warnings told by ``tell``, or with ``verbose`` each stage too, as JSON on stderr."""
    handler: logging.Handler = Told(tell)
    if verbose:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
    ours = logging.getLogger("kstock_batch")
    ours.handlers = [handler]
    ours.setLevel(logging.INFO if verbose else logging.WARNING)
    ours.propagate = False


def show_traceback(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    """Show what ends the program, a mistake of ours, as Python does, but without secrets: a ``sys.excepthook``."""
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, at))))
