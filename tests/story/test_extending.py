"""docs/extending.md, followed word for word on a copy of the code: what it adds, runs."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cli.processes import module_command
from tests.system import PATIENCE, System, until

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "extending.md"
CODE = ("api", "cli", "pipeline", "workers")

# A line that ends in a colon, and the block below it. Lines to insert are in blocks without a
# language: they are a part of something, which no formatter can read.
_STEP = re.compile(
    r"^(?:New file `(?P<new>[^`]+)`|In `(?P<old>[^`]+)`, after `(?P<anchor>[^`]+)`):\n\n"
    r"```(?:python)?\n(?P<block>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Step:
    """A new file, or lines to insert after the one line of a file that reads as `anchor` does."""

    file: str
    anchor: str | None
    block: str

    def apply(self, folder: Path) -> None:
        path = folder / self.file
        if self.anchor is None:
            assert not path.exists(), f"{self.file} is there already"
            path.write_text(self.block)
            return
        lines = path.read_text().splitlines(keepends=True)
        at = [n for n, line in enumerate(lines, 1) if line.strip() == self.anchor]
        assert len(at) == 1, f"{self.file} has {len(at)} lines {self.anchor}"
        path.write_text("".join((*lines[: at[0]], self.block, *lines[at[0] :])))


def steps() -> list[Step]:
    found = _STEP.finditer(PAGE.read_text())
    return [Step(step["new"] or step["old"], step["anchor"], step["block"]) for step in found]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, with all that the page adds."""
    folder = tmp_path_factory.mktemp("extended")
    for package in CODE:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for step in steps():
        step.apply(folder)
    return folder


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, extended: Path, encoder: Path, drawn: Path
) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), encoder, checkout=extended) as running:
        running.ingest(drawn, limit=60)
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, and a list that names them and one that is not there."""
    folder = tmp_path_factory.mktemp("export")
    for number in range(3):
        Image.new("RGB", (40, 30), (200, 60 * number, 90)).save(folder / f"{number}.png")
    names = (folder / name for name in ("0.png", "1.png", "2.png", "gone.png"))
    (folder / "images.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


def kindred(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*module_command("cli", *arguments), "--url", str(system.http.base_url)],
        env=system.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def lines_per_file() -> dict[str, int]:
    """How many lines the page adds to each file that is there already."""
    found: dict[str, int] = {}
    for step in steps():
        if step.anchor is not None:
            found[step.file] = found.get(step.file, 0) + step.block.count("\n")
    return found


def test_every_block_of_code_is_a_step_of_the_test():
    assert PAGE.read_text().count("```") == 2 * len(steps())


def test_the_price_is_one_file_and_one_line_with_its_import():
    assert lines_per_file() == {
        "pipeline/operations/registry.py": 2,
        "api/app.py": 2,
        "cli/main.py": 2,
        "pipeline/sources/registry.py": 2,
        "workers/runtime.py": 1,
    }
    new = [step.file for step in steps() if step.anchor is None]
    assert [file.split("/")[0] for file in new] == ["pipeline", "api", "cli", "pipeline"]


@pytest.mark.parametrize(
    "tool", [("lint-imports", "--no-cache"), ("ruff", "check", "."), ("ruff", "format", "--check")]
)
def test_what_the_page_adds_passes(tool: tuple[str, ...], extended: Path) -> None:
    program = Path(sys.executable).parent / tool[0]

    told = subprocess.run(
        [program, *tool[1:]],
        cwd=extended,
        env={"PYTHONPATH": str(extended)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 0, told.stdout + told.stderr


def test_the_new_operation_answers_over_http(system: System) -> None:
    stored = system.indexed()
    by_id = {image["image_id"]: image["payload"] for image in stored}
    image_id = stored[0]["image_id"]
    hits = system.search(image_id=image_id, not_ids=[image_id], limit=20)["results"]
    expected: dict[str, int] = {}
    for hit in hits:
        value = by_id[hit["image_id"]]["dx"]
        expected[value] = expected.get(value, 0) + 1

    given = {"image_id": image_id, "field": "dx", "limit": "20"}
    found = [
        system.http.get(path, params=given).raise_for_status().json()
        for path in ("/v1/tally", f"/v1/collections/{system.collection}/tally")
    ]

    assert found[0] == found[1]
    assert found[0]["count"] == 20
    assert {v["value"]: v["count"] for v in found[0]["values"]} == expected
    counts = [v["count"] for v in found[0]["values"]]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize(
    ("wrong", "status", "path"),
    [
        ({"field": "nonsense"}, 422, "field"),
        ({"limit": "0"}, 422, "limit"),
        ({"more": "1"}, 422, "more"),
        ({"image_id": "nope"}, 404, ""),
    ],
)
def test_the_new_operation_says_what_is_wrong(
    system: System, wrong: dict[str, str], status: int, path: str
) -> None:
    given = {"image_id": "DRAWN_000001", "field": "dx", **wrong}

    refused = system.http.get("/v1/tally", params=given)

    assert refused.status_code == status
    assert refused.headers["content-type"] == "application/problem+json"
    assert path in refused.text


def test_the_new_operation_and_source_are_documented(system: System) -> None:
    document = system.http.get("/openapi.json").json()

    assert {"TallyAnswer", "ListSource"} <= document["components"]["schemas"].keys()
    assert {"/v1/tally", "/v1/collections/{collection}/tally"} <= document["paths"].keys()


def test_the_new_command_prints_the_values(system: System) -> None:
    told = kindred(system, "tally", "DRAWN_000001", "dx", "--among", "20")
    as_json = kindred(system, "tally", "DRAWN_000001", "dx", "--among", "20", "--json")
    unknown = kindred(system, "tally", "nope", "dx")

    assert told.returncode == 0, told.stderr
    answer = json.loads(as_json.stdout)
    rows = [line.split() for line in told.stdout.splitlines() if line.strip(" ─━")]
    assert rows == [["dx", "images"], *([v["value"], str(v["count"])] for v in answer["values"])]
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (1, 1)


def test_the_new_kind_of_source_is_ingested_over_http(system: System, folder: Path) -> None:
    answer = system.http.post("/v1/jobs", json={"kind": "list", "file": f"{folder}/images.txt"})
    assert answer.status_code == 202, answer.text

    job = system.finished(answer.json()["id"])

    assert (job["total"], job["embedded"], job["rejected"]) == (4, 3, 1)
    found = _of_kind_list(system)
    assert len(found) == 3
    image_id = found[0]["image_id"]
    assert system.search(image_id=image_id, limit=1)["results"][0]["image_id"] == image_id


def test_the_new_kind_of_source_is_ingested_by_its_command(system: System, folder: Path) -> None:
    told = kindred(system, "ingest", "--kind", "list", "--set", f"file={folder}/images.txt")

    assert told.returncode == 3, told.stderr  # done, with the file that is not there rejected
    assert "1 rejected" in told.stdout
    assert len(_of_kind_list(system)) == 3


def test_the_new_kind_of_source_says_what_is_wrong(system: System, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    unknown = system.http.post("/v1/jobs", json={"kind": "list", "file": "/f", "more": 1})
    empty = system.http.post("/v1/jobs", json={"kind": "list", "file": f"{tmp_path}/empty.txt"})

    assert unknown.status_code == 422
    job = system.finished(empty.json()["id"])
    assert (job["state"], job["error"]["type"]) == ("failed", "source-error")


def test_the_new_metric_is_shown(system: System) -> None:
    system.search(image_id="nope")
    line = re.compile(
        rf'^kindred_refused_total\{{collection="{system.collection}",operation="search",process="[^"]+",'
        r'reason="not-found"\} [1-9]',
        re.MULTILINE,
    )

    def shown() -> Any:
        return line.search(system.http.get("/metrics").text)

    until(shown, "the counter in /metrics")


def _of_kind_list(system: System) -> list[dict[str, Any]]:
    return [image for image in system.indexed() if image["payload"]["source"]["kind"] == "list"]
