"""Formats log lines as `time level logger message key=value …`, with ids and never metadata."""

import logging
import sys
import traceback
from typing import Any, Literal

# Every record has these attributes; all others came in through `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "color_message",  # uvicorn repeats the message in colours
    "data",  # Celery adds the arguments of a task
}

# Below a warning, the clients of object stores log names of blobs and signed headers.
_NOISY = (
    *("httpx", "httpcore", "fsspec", "filelock", "urllib3", "kombu", "amqp"),
    *("aiobotocore", "botocore", "s3fs"),
)


class _Line(logging.Formatter):
    def __init__(self, form: str, worker: str = "") -> None:
        super().__init__(form)
        self._always = {"worker": worker} if worker else {}

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        extra = {k: v for k, v in vars(record).items() if k not in _STANDARD} | self._always
        return line + "".join(f" {name}={value}" for name, value in sorted(extra.items()))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        """Libraries log unexpected errors. Their text can quote data; their location cannot."""
        return where(ei[1]) if ei[1] is not None else ""


def configure(level: Literal["DEBUG", "INFO", "WARNING", "ERROR"], worker: str = "") -> None:
    """Sends all log lines to standard error, where supervisors and containers collect them.

    Each says its `worker`, if that has a name. A line is written at once: so the system keeps those
    of several processes apart, up to 4,096 bytes of one on a pipe.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line("%(asctime)s %(levelname)s %(name)s %(message)s", worker))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel("WARNING")


def where(error: BaseException) -> str:
    """The error's type and the last four frames, without its text, which can quote data."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    stack = " < ".join(f"{f.name}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__} at {stack}"
