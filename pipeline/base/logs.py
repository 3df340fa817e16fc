"""Formats log lines as `time level logger message key=value …`, with ids and never metadata."""

import logging
import sys
import time
import traceback
from dataclasses import dataclass
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


# Equal lines of these are written once a minute: anybody can make them write by calling, and Celery
# repeats itself while Redis is away.
_LIMITED = (
    *("asyncio", "uvicorn", "uvicorn.error", "kindred.door"),
    "celery.worker.consumer.consumer",
)
_AGAIN = 60.0  # seconds
_MOST_KEYS = 100


@dataclass
class _Repeated:
    """A line that was written at `since`, and how many equal ones were left out after it."""

    record: logging.LogRecord
    since: float
    left_out: int = 0

    def told(self) -> logging.LogRecord:
        line = f"{self.left_out} equal lines left out: {_first_line(self.record)}"
        return logging.LogRecord(self.record.name, self.record.levelno, "", 0, line, None, None)


class _Limited(logging.StreamHandler[Any]):
    """Writes equal lines of some loggers once a minute, then how many it has left out.

    It says so with the next line of any logger, once the minute is over, and when it is closed.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._repeated: dict[tuple[Any, ...], _Repeated] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(time.monotonic() - _AGAIN)
        if record.name not in _LIMITED:
            super().emit(record)
            return
        key = (record.name, record.levelno, _first_line(record), _place_of(record))
        if known := self._repeated.get(key):
            known.left_out += 1
            return
        if len(self._repeated) == _MOST_KEYS:
            self._forget(next(iter(self._repeated)))
        self._repeated[key] = _Repeated(record, time.monotonic())
        super().emit(record)

    def close(self) -> None:
        self._tell(time.monotonic())
        super().close()

    def _tell(self, before: float) -> None:
        for key in [key for key, each in self._repeated.items() if each.since <= before]:
            self._forget(key)

    def _forget(self, key: tuple[Any, ...]) -> None:
        gone = self._repeated.pop(key)
        if gone.left_out:
            super().emit(gone.told())


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
    handler = _Limited(sys.stderr)
    handler.setFormatter(_Line("%(asctime)s %(levelname)s %(name)s %(message)s", worker))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel("WARNING")


def _first_line(record: logging.LogRecord) -> str:
    """Of asyncio's messages: the next ones describe the connection, each time another."""
    return str(record.msg).partition("\n")[0][:200]


def _place_of(record: logging.LogRecord) -> str:
    """Two unexpected errors are not equal because the server says the same of both."""
    error = record.exc_info[1] if record.exc_info else None
    return "" if error is None else where(error)


def where(error: BaseException) -> str:
    """The error's type and the last four frames, without its text, which can quote data."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    stack = " < ".join(f"{f.name}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__} at {stack}"
