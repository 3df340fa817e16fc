"""Folders of all kinds, from the workers' side and by upload: both ways have one result."""

import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cli import main
from tests.conftest import SHARED
from tests.system import System
from tests.trees import TREES, Tree, tarred, tree

ENDS = {0, 1, 3}


@dataclass(frozen=True)
class Ways:
    """Two systems: one reads folders, the other takes uploads."""

    folder: System
    upload: System


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[Ways]:
    one, other = (tmp_path_factory.mktemp(name) for name in ("by-folder", "by-upload"))
    with System(one, encoder) as folder, System(other, encoder) as upload:
        yield Ways(folder, upload)


@dataclass
class Told:
    """What the command said: its document, its error line and its exit code."""

    code: int
    document: dict[str, Any]
    error: str


class Kindred:
    """The command line, in this process, against one system."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._patch = capsys, monkeypatch

    def __call__(self, system: System, *args: str) -> Told:
        self._patch.setenv("KINDRED_URL", f"http://127.0.0.1:{system.port}")
        self._capsys.readouterr()
        code = main.run([*args, "--json"])
        said = self._capsys.readouterr()
        return Told(code, json.loads(said.out) if said.out else {}, said.err)


@pytest.fixture
def kindred(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Kindred:
    return Kindred(capsys, monkeypatch)


@dataclass
class Account:
    """All that a run said and did, without what must differ: jobs, times and blobs."""

    counts: dict[str, int]
    total: int
    skipped: dict[str, int]
    skipped_names: list[tuple[str, str]]
    rejections: list[tuple[str, str]]
    images: dict[str, dict[str, Any]]


def account_of(system: System, told: Told, before: set[str]) -> Account:
    document = told.document
    jobs = [job["id"] for job in document.get("jobs", [document])]
    pages = [system.http.get(f"/v1/jobs/{job}/rejections?limit=1000").json() for job in jobs]
    skipped = [system.http.get(f"/v1/jobs/{job}/skipped?limit=1000").json() for job in jobs]
    payloads = [image["payload"] for image in system.indexed()]
    return Account(
        counts={n: document[n] for n in ("embedded", "updated", "unchanged", "rejected")},
        total=document["total"],
        skipped=document["skipped"],
        skipped_names=sorted((s["name"], s["kind"]) for page in skipped for s in page["skipped"]),
        rejections=sorted((r["name"], r["reason"]) for p in pages for r in p["rejections"]),
        images={p["image_id"]: _shown(p) for p in payloads if p["image_id"] not in before},
    )


def _shown(payload: dict[str, Any]) -> dict[str, Any]:
    kept = ("name", "sha256", "width", "height")
    return {**payload, "source": {name: payload["source"].get(name) for name in kept}}


def ids(system: System) -> set[str]:
    return {image["image_id"] for image in system.indexed()}


@pytest.mark.parametrize("case", TREES.values(), ids=TREES.keys())
def test_a_folder_has_one_result_both_ways(
    ways: Ways, kindred: Kindred, tmp_path: Path, case: Tree
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    case.write(root)
    before = ids(ways.folder)

    named = str(root / case.named)
    by_folder = kindred(ways.folder, "ingest", named, *case.options)
    by_upload = kindred(ways.upload, "ingest", "--upload", named, *case.options)

    if case.fails is not None:
        assert (by_folder.code, by_upload.code) == (1, 1)
        assert case.fails in by_folder.error
        assert case.fails in by_upload.error
        return
    one = account_of(ways.folder, by_folder, before)
    assert one == account_of(ways.upload, by_upload, before)
    assert_right(one, case)
    assert_all_accounted(one, root / (case.named or case.part))
    assert by_folder.code == by_upload.code == (3 if case.rejected else 0)


def test_a_file_that_is_named_has_one_result_both_ways(
    ways: Ways, kindred: Kindred, tmp_path: Path
) -> None:
    """A picture is taken, an archive read, and anything else rejected: somebody meant it."""
    contents = {"a.jpg": None, "b.txt": "text", "c.tar": tarred({"x/d.jpg": None})}
    tree(contents)(tmp_path)
    for name, code in (("a.jpg", 0), ("b.txt", 3), ("c.tar", 0)):
        before = ids(ways.folder)
        by_folder = kindred(ways.folder, "ingest", str(tmp_path / name))
        by_upload = kindred(ways.upload, "ingest", "--upload", str(tmp_path / name))

        assert (by_folder.code, by_upload.code) == (code, code), (name, by_folder, by_upload)
        one = account_of(ways.folder, by_folder, before)
        assert one.total == 1
        assert one == account_of(ways.upload, by_upload, before)


CASES = SHARED.parent / "cases"
UNPACKED = {
    "01-split-words": "*/*", "03-latin1-name": "*", "05-partial-table": "*",
    "07-sidecars": "*/*", "08-empty": "*/*", "09-extensions": "*",
    "10-zip": "*/*", "11-webdataset-dots": "*/*", "12-decimal-ids": "*/*",
    "13-duplicate-ids": "*/*", "15-parquet-without-hf-schema": "*/*", "16-shards": "*/*",
    "17-configs-readme": "*/*", "18-tables": "*/*", "21-terminal": "*",
}  # fmt: skip


@pytest.mark.parametrize("name", UNPACKED)
def test_a_case_from_elsewhere_has_one_result_both_ways(
    ways: Ways, kindred: Kindred, tmp_path: Path, name: str
) -> None:
    """What is right for each is a test of its own kind above; here the two ways must agree."""
    archive = CASES / f"{name}.tar.gz"
    if not archive.exists():
        pytest.skip("the cases are not here")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="tar")
    roots = [path for path in sorted((tmp_path).glob(UNPACKED[name])) if path.is_dir()]
    assert roots
    for root in roots:
        before = ids(ways.folder)
        by_folder = kindred(ways.folder, "ingest", str(root))
        by_upload = kindred(ways.upload, "ingest", "--upload", str(root))

        assert by_folder.code == by_upload.code, (root, by_folder, by_upload)
        if by_folder.code == 1:
            assert without_ids(by_folder.error) == without_ids(by_upload.error)
            continue
        one = account_of(ways.folder, by_folder, before)
        other = account_of(ways.upload, by_upload, before)
        assert one.total == sum(one.counts.values())
        assert nameless(one) == nameless(other), root


def without_ids(error: str) -> str:
    """A job that fails is named; an upload fails before there is one."""
    return re.sub(r"^kindred: (job \S+ has failed: )?(The source cannot be read: )?", "", error)


def nameless(account: Account) -> Account:
    """A row of a data set has no file: only where the workers read it has it a name, its place."""
    return replace(account, rejections=sorted(("", reason) for _, reason in account.rejections))


def assert_right(account: Account, case: Tree) -> None:
    assert account.counts == {
        "embedded": len(case.images),
        "updated": 0,
        "unchanged": case.unchanged,
        "rejected": len(case.rejected),
    }
    assert account.total == sum(account.counts.values())
    assert account.skipped == case.skipped
    assert [name for name, _ in account.rejections] == sorted(case.rejected)
    for name, reason in account.rejections:
        assert case.rejected[name] in reason
    described = {_key(p, case): _metadata(p, case) for p in account.images.values()}
    assert described == case.images


def _key(payload: dict[str, Any], case: Tree) -> str:
    known = payload["image_id"] in case.images
    return str(payload["image_id"] if known else payload["source"]["name"])


def _metadata(payload: dict[str, Any], case: Tree) -> dict[str, Any]:
    return {n: v for n, v in payload.items() if n not in ("source", "image_id")}


def assert_all_accounted(account: Account, root: Path) -> None:
    """Every file on the disk is in exactly one count."""
    listed = Counter(name for name, _ in account.skipped_names)
    assert sum(account.skipped.values()) == sum(listed.values())
    on_disk = sum(len(names) for _, _, names in os.walk(root))
    inside = sum(".zip/" in name or ".tar" in name for name in [*listed, *dict(account.rejections)])
    assert on_disk <= account.total + sum(listed.values()) + inside
