"""Files and folders that the workers may not read: each is named, and costs itself at most."""

import json
from pathlib import Path

from tests.trees import pictures, tree
from tests.unprivileged import forbid, run

SURVEY = """
import json, sys
from pathlib import Path
from pipeline.base.errors import SourceError
from pipeline.sources.folder.reader import Pictures, directory
from pipeline.sources.folder.survey import PLAIN, survey
try:
    found = survey(directory(Pictures(Path(sys.argv[1]), ())), PLAIN)
    print(json.dumps({one.name: getattr(one, "fault", None) for one in found}))
except SourceError as error:
    print(json.dumps(str(error)))
"""


def surveyed(root: Path) -> object:
    return json.loads(run(SURVEY, str(root)))


def test_a_file_and_a_folder_are_named_and_the_rest_is_taken(tmp_path: Path) -> None:
    tree(pictures("a.jpg", "b.jpg", "sub/c.jpg"))(tmp_path)
    forbid(tmp_path / "b.jpg")
    forbid(tmp_path / "sub")
    assert surveyed(tmp_path) == {
        "a.jpg": None,
        "b.jpg": "it cannot be read: Permission denied",
        "sub/": "this folder cannot be read: Permission denied",
    }


def test_a_table_fails_the_job_at_once(tmp_path: Path) -> None:
    tree({**pictures("a.jpg"), "metadata.csv": "file_name,dx\na.jpg,nv\n"})(tmp_path)
    forbid(tmp_path / "metadata.csv")
    said = "The table metadata.csv: it cannot be read: Permission denied."
    assert surveyed(tmp_path) == said


def test_so_does_the_whole_folder(tmp_path: Path) -> None:
    tree(pictures("whole/a.jpg"))(tmp_path)
    forbid(tmp_path / "whole")
    assert surveyed(tmp_path / "whole") == f"{tmp_path}/whole cannot be read: Permission denied."
