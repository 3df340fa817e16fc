"""Log lines as `time level logger message key=value …`. They carry ids, never metadata."""

import logging
import sys
import traceback
from typing import Any, Literal

# What every record has anyway; the rest came in through `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "color_message",  # uvicorn's, the same again in colours
    "data",  # Celery's, the arguments of a task
}


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        extra = {k: v for k, v in vars(record).items() if k not in _STANDARD}
        return line + "".join(f" {name}={value}" for name, value in sorted(extra.items()))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        """Libraries log what they did not expect; its text can quote data, and its place cannot."""
        return where(ei[1]) if ei[1] is not None else ""


def configure(level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]) -> None:
    """Sends everything to standard error, where supervisors and containers collect it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "fsspec", "filelock", "urllib3", "kombu", "amqp"):
        logging.getLogger(noisy).setLevel("WARNING")


def where(error: BaseException) -> str:
    """The error's type and the way to it, without its text, which can quote data."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    way = " < ".join(f"{f.name}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__} at {way}"
