"""What stands in a log line, whoever writes it."""

import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base import logs


def test_of_an_exception_only_its_type_and_place_are_logged() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logs._Line("%(levelname)s %(message)s"))
    logger = logging.Logger("any")
    logger.addHandler(handler)
    try:
        raise ValueError("Doe, Jane")
    except ValueError:
        logger.exception("a library did not expect this")
    assert "Jane" not in out.getvalue()
    assert "ValueError at test_of_an_exception" in out.getvalue()


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(logs, "time", found)
    return found


@pytest.fixture
def written(clock: Clock) -> "Written":
    return Written()


class Written:
    """What is written of what is logged."""

    def __init__(self) -> None:
        self.out = io.StringIO()
        self.handler = logs._Limited(self.out)
        self.handler.setFormatter(logs._Line("%(levelname)s %(name)s %(message)s"))

    def log(self, name: str, text: str, error: BaseException | None = None, **more: str) -> None:
        info = (type(error), error, error.__traceback__) if error else None
        record = logging.LogRecord(name, logging.ERROR, "", 0, text, None, info)
        vars(record).update(more)
        self.handler.handle(record)

    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


def test_equal_lines_of_the_server_are_written_once_a_minute_with_their_number(
    written: Written, clock: Clock
) -> None:
    full = "socket.accept() out of system resource"
    for number in range(61_439):
        written.log("asyncio", f"{full}\nsocket: <fd={number}>")
    written.log("uvicorn.error", "Invalid HTTP request received.")
    assert len(written.lines()) == 3  # one of them has two

    clock.now = 61
    written.log("kindred.api", "any line")
    assert written.lines()[3:] == [
        f"ERROR asyncio 61438 equal lines left out: {full}",
        "ERROR kindred.api any line",
    ]
    written.log("uvicorn.error", "Invalid HTTP request received.")
    assert written.lines()[5:] == ["ERROR uvicorn.error Invalid HTTP request received."]


def test_what_is_left_out_is_told_at_the_end(written: Written) -> None:
    for _ in range(3):
        written.log("uvicorn.error", "no")
    written.handler.close()
    assert written.lines() == [
        "ERROR uvicorn.error no",
        "ERROR uvicorn.error 2 equal lines left out: no",
    ]


def test_our_own_lines_and_errors_from_other_places_are_all_written(written: Written) -> None:
    def first() -> None:
        raise ValueError

    def second() -> None:
        raise ValueError

    for _ in range(2):
        written.log("kindred.worker", "unit failed")
        for place in (first, second):
            try:
                place()
            except ValueError as error:
                written.log("uvicorn.error", "Exception in ASGI application", error)
    assert [line for line in written.lines() if "unit" in line] == [
        "ERROR kindred.worker unit failed"
    ] * 2
    assert [line.split(":")[0] for line in written.lines() if "ValueError" in line] == [
        "ValueError at first",
        "ValueError at second",
    ]


def test_no_more_than_a_few_lines_are_remembered(written: Written) -> None:
    for number in range(10_000):
        written.log("asyncio", f"line {number}")
    assert len(written.lines()) == 10_000
    assert len(written.handler._repeated) == logs._MOST_KEYS


def test_libraries_name_no_file_that_they_cannot_read(tmp_path: Path) -> None:
    """In a process of its own, since loggers are the whole process's."""
    (tmp_path / "Doe-Jane.tif").write_bytes(b"II*\0Doe-Jane")
    (tmp_path / "metadata.csv").write_text('file_name,note\nDoe-Jane.tif,"Doe-Jane\n')
    told = subprocess.run(
        [sys.executable, "-c", _INGEST, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "The table metadata.csv cannot be read" in told.stdout
    assert "truncated or damaged" in told.stdout
    assert "Doe-Jane" not in told.stdout + told.stderr


_INGEST = """
import sys
from pathlib import Path

import pytest

from pipeline.base import logs
from pipeline.sources.allowed import AllowedSources
from pipeline.base.blobs import Blobs
from pipeline.base.errors import SourceError
from pipeline.sources.base import Opening
from pipeline.sources.dataset import DatasetSource
from pipeline.images.decoding import decode
from pipeline.sources.registry import plan_source

folder = sys.argv[1]
logs.configure("DEBUG")
opening = Opening(Blobs(folder + "-blobs"), AllowedSources.of((folder,)), job="job")
try:
    plan_source(DatasetSource(dataset=folder), opening)
except SourceError as error:
    print(error)
Path(folder, "metadata.csv").unlink()
for row in plan_source(DatasetSource(dataset=folder), opening).read(0, 1):
    print(decode(row.data, 1_000_000))
"""
