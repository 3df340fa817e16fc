"""What stands in a log line, whoever writes it."""

import io
import logging
import subprocess
import sys
from pathlib import Path

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
