"""Models and data sets by their names on the hub, through the real client libraries.

The hub is a stand-in on loopback. It has the seed's own names, asks for a token, breaks off, and
goes away.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.hub import TOKEN, Hub
from tests.system import System, kill

DATASET, MODEL = "marmal88/skin_cancer", "facebook/dino-vits16"
COLUMNS = {"image", "image_id", "lesion_id", "dx", "dx_type", "age", "sex", "localization"}

TWO = b"""---
configs:
- config_name: clinical
  data_files: clinical/*.parquet
- config_name: dermoscopic
  data_files: dermoscopic/*.parquet
---
"""


def picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 40), (number, 100, 50)).save(out, "PNG")
    return out.getvalue()


def parquet(start: int, rows: int = 2, **columns: Any) -> bytes:
    out = io.BytesIO()
    images = [picture(n) for n in range(start, start + rows)]
    pq.write_table(pa.table({"image": images, **columns}), out)
    return out.getvalue()


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {**kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), **more}


# --- a department that names what the seed names --------------------------------------------------


@pytest.fixture(scope="module")
def files(drawn: Path) -> dict[str, bytes]:
    [rows] = drawn.glob("*.parquet")
    return {
        "README.md": b"---\nlicense: cc-by-nc-4.0\n---\n",
        "data/train-00000-of-00001.parquet": rows.read_bytes(),
        "data/test-00000-of-00002.parquet": parquet(0),
        "data/test-00001-of-00002.parquet": parquet(2),
    }


def test_the_seed_s_own_names_are_served_and_outlive_the_hub(
    tmp_path: Path, encoder: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Hub() as hub:
        repository = hub.add("datasets", DATASET, files)
        first = repository.branches["main"]
        hub.add("models", MODEL, {file.name: file.read_bytes() for file in encoder.iterdir()})
        hub.cuts["model.safetensors"] = 1
        hub.cuts["data/train-00000-of-00001.parquet"] = 1
        for name, value in environment(hub, tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        with System(tmp_path / "data", Path(MODEL), forked=False) as system:
            assert system.http.get("/v1/collection").json()["encoder"]["model"] == MODEL

            job = system.ingest(DATASET, split="train")
            assert (job["state"], job["embedded"], job["total"]) == ("succeeded", 200, 200), job
            payload = system.indexed()[0]["payload"]
            assert payload.keys() >= COLUMNS - {"image", "age"}
            assert payload["source"].items() >= {"dataset": DATASET, "split": "train"}.items()

            # Another split, by the place of its rows: they have no ids.
            assert system.ingest(DATASET, split="test")["embedded"] == 4
            assert (
                system.http.get("/v1/images/marmal88%2Fskin_cancer%2Ftest%233").status_code == 200
            )

            # A later commit has one file more; the earlier one can still be named.
            more = {**files, "data/test-00002-of-00003.parquet": parquet(4)}
            repository.commit(more)
            job = system.ingest(DATASET, split="test")
            assert (job["embedded"], job["unchanged"]) == (2, 4)
            assert system.ingest(DATASET, split="test", revision=first)["total"] == 4

            hub.close()
            kill(system.worker)
            system.restart_worker()  # finds its model on this machine
            assert system.ingest(DATASET, split="test")["unchanged"] == 6
            assert system.ingest(DATASET, split="test", revision=first)["unchanged"] == 4


# --- how the hub refuses --------------------------------------------------------------------------

_OPEN = """
import json, sys
from pipeline.base.errors import KindredError
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.hub import open_hub
from pipeline.sources.selection import Selection

said = {}
for name, selected in json.loads(sys.stdin.read()).items():
    try:
        reader = open_hub(Selection(**selected), AllowedSources.of(("hub:*",)))
        rows = list(reader.read(0, len(reader)))
        said[name] = [[row.image_id, row.name, row.metadata, len(row.data)] for row in rows]
    except KindredError as error:
        said[name] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""


def opened(hub: Hub, home: Path, wanted: dict[str, Any], **more: str) -> dict[str, Any]:
    """What became of each, in a process of its own: the libraries read the hub's address once."""
    done = subprocess.run(
        [sys.executable, "-c", _OPEN],
        input=json.dumps(wanted),
        env=environment(hub, home, **more),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "no data set": ({"dataset": "no/body"}, "The hub has no data set no/body, or shows it only to"),
    "no revision": (
        {"dataset": "acme/plain", "revision": "v9"},
        "The hub has no revision v9 of acme/plain.",
    ),
    "no split": (
        {"dataset": "acme/plain", "split": "tset"},
        "The data set has no split tset; its splits are test, train.",
    ),
    "no configuration named": (
        {"dataset": "acme/two"},
        "Name the configuration to read with --config: clinical, dermoscopic.",
    ),
    "no such configuration": (
        {"dataset": "acme/two", "config": "x"},
        "There is no such configuration; those of the data set are clinical, dermoscopic.",
    ),
    "gated, 401": ({"dataset": "acme/gated401"}, "The hub requires a login for acme/gated401."),
    "gated, 403": ({"dataset": "acme/gated403"}, "The hub requires a login for acme/gated403."),
    "broken off": (
        {"dataset": "acme/cut"},
        "The download of cut/train-00000-of-00001.parquet from the hub broke off. Retry the job.",
    ),
    "no files": ({"dataset": "acme/empty"}, "The hub has no files of acme/empty that can be read."),
    "a broken file": ({"dataset": "acme/broken"}, "it is damaged or cut off"),
    "types that clash": ({"dataset": "acme/clash"}, "column x is int64 in acme/clash/data/train-"),
    "files elsewhere": ({"dataset": "acme/elsewhere"}, "The hub has no files of acme/elsewhere"),
    "no images": ({"dataset": "acme/text"}, "no column of images; its columns are x"),
}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as running:
        whole = {
            "data/train-00000-of-00001.parquet": parquet(0, dx=["a", "b"]),
            "data/test-00000-of-00001.parquet": parquet(2),
        }
        plain = running.add("datasets", "acme/plain", whole)
        plain.branches["v1"] = plain.branches["main"]
        running.add("datasets", "acme/gated401", whole, gated=401)
        running.add("datasets", "acme/gated403", whole, gated=403)
        running.add("datasets", "acme/cut", {"cut/train-00000-of-00001.parquet": parquet(0)})
        running.cuts["cut/train-00000-of-00001.parquet"] = 1000
        running.add("datasets", "acme/empty", {"README.md": b"# Nothing\n"})
        running.add("datasets", "acme/broken", {"data/train-00000-of-00001.parquet": b"PAR1"})
        shards = [parquet(0, x=[1, 2]), parquet(0, x=["a", "b"])]
        running.add(
            "datasets",
            "acme/clash",
            {f"data/train-0000{n}-of-00002.parquet": shard for n, shard in enumerate(shards)},
        )
        two = {f"{name}/{n}.parquet": parquet(n, 1)
               for n, name in enumerate(("clinical", "dermoscopic"))}  # fmt: skip
        running.add("datasets", "acme/two", {"README.md": TWO, **two})
        head = b"---\nconfigs:\n- config_name: a\n  data_files: /etc/*.parquet\n---\n"
        running.add("datasets", "acme/elsewhere", {"README.md": head, "x.parquet": parquet(0)})
        running.add("datasets", "acme/text", {"train.jsonl": b'{"x": "a"}\n{"x": "b"}\n'})
        yield running


@pytest.fixture(scope="module")
def refused(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    wanted = {name: selected for name, (selected, _) in KINDS.items()}
    return opened(hub, tmp_path_factory.mktemp("refused"), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_each_way_to_refuse_has_its_sentence(kind: str, refused: dict[str, Any]) -> None:
    assert KINDS[kind][1] in refused[kind]
    assert refused[kind].startswith(("SourceError: ", "SourceNotAllowed: "))
    assert ("HF_TOKEN" in refused[kind]) == (kind.startswith("gated") or kind == "no data set")


def test_a_token_opens_what_is_gated(hub: Hub, tmp_path: Path) -> None:
    wanted = {"gated": {"dataset": "acme/gated401"}, "forbidden": {"dataset": "acme/gated403"}}
    said = opened(hub, tmp_path, wanted, HF_TOKEN=TOKEN)
    assert [len(said["gated"]), len(said["forbidden"])] == [2, 2]
    assert TOKEN not in json.dumps(said)


def test_rows_are_called_by_their_data_set_and_configuration(hub: Hub, tmp_path: Path) -> None:
    wanted = {
        "plain": {"dataset": "acme/plain"},
        "tagged": {"dataset": "acme/plain", "revision": "v1", "split": "test"},
        "one of two": {"dataset": "acme/two", "config": "dermoscopic"},
    }
    said = opened(hub, tmp_path, wanted)
    size = len(picture(0))
    assert said["plain"] == [
        ["acme/plain/train#0", None, {"dx": "a"}, size],
        ["acme/plain/train#1", None, {"dx": "b"}, size],
    ]
    assert [row[0] for row in said["tagged"]] == ["acme/plain/test#0", "acme/plain/test#1"]
    assert [row[0] for row in said["one of two"]] == ["acme/two/dermoscopic/train#0"]


def test_only_the_split_is_fetched_and_nothing_is_prepared(hub: Hub, tmp_path: Path) -> None:
    before = len(hub.calls)
    opened(hub, tmp_path, {"plain": {"dataset": "acme/plain"}})
    assert not [call for call in hub.calls[before:] if "test-00000" in call]
    assert not list(tmp_path.rglob("*.arrow"))


def test_a_download_that_breaks_off_leaves_nothing_that_is_taken_for_whole(
    hub: Hub, tmp_path: Path
) -> None:
    name, content = "data/train-00000-of-00001.parquet", parquet(0, 3)
    hub.add("datasets", "acme/slow", {name: content})
    hub.cuts[name] = 1000
    wanted = {"slow": {"dataset": "acme/slow"}}
    assert "broke off" in opened(hub, tmp_path, wanted)["slow"]
    hub.cuts[name] = 1
    assert len(opened(hub, tmp_path, wanted)["slow"]) == 3


def test_without_the_network_what_was_fetched_is_read(hub: Hub, tmp_path: Path) -> None:
    wanted = {"plain": {"dataset": "acme/plain"}, "two": {"dataset": "acme/two", "config": "x"}}
    before = opened(hub, tmp_path, wanted)
    after = opened(hub, tmp_path, wanted, HF_HUB_OFFLINE="1")
    assert after["plain"] == before["plain"]
    assert "hub cannot be reached, and acme/two was not fetched" in after["two"]
    for file in tmp_path.rglob("train-00000-of-00001.parquet"):
        file.unlink()
    gone = opened(hub, tmp_path, wanted, HF_HUB_OFFLINE="1")
    assert "hub cannot be reached, and acme/plain was not fetched" in gone["plain"]


# --- two hosts ------------------------------------------------------------------------------------

_WORK = """
import json, sys
from pipeline.base.blobs import Blobs
from pipeline.base.errors import KindredError
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.base import Opening
from pipeline.sources.dataset import DatasetSource
from pipeline.sources.folder.catalogue import Catalogue
from pipeline.sources.registry import SourceCache

wanted = json.loads(sys.stdin.read())
blobs = Blobs(wanted["blobs"])
cache = SourceCache(Opening(blobs, AllowedSources.of(("hub:*",))))
source = DatasetSource(**wanted["source"])
try:
    if "rows" in wanted:
        reader = cache.get("job", source, wanted["version"])
        rows = list(reader.read(*wanted["rows"]))
    else:
        reader = cache.plan("job", source)
        rows = list(reader.read(0, len(reader)))
    told = {"version": reader.version, "ids": [row.image_id for row in rows],
            "said": [row.metadata for row in rows], "bytes": sum(len(row.data) for row in rows)}
except KindredError as error:
    told = {"error": type(error).__name__, "title": error.title}
print(json.dumps(told))
"""


class Host:
    """A host has its own HF_HOME; all of them share the blobs."""

    def __init__(self, hub: Hub, folder: Path, dataset: str) -> None:
        self.hub, self.folder, self.dataset = hub, folder, dataset

    def work(self, name: str, **wanted: Any) -> dict[str, Any]:
        """In a process of its own: plans the job, or reads `rows` of it."""
        given = {"blobs": str(self.folder / "blobs"), "source": {"dataset": self.dataset}}
        done = subprocess.run(
            [sys.executable, "-c", _WORK],
            input=json.dumps({**given, **wanted}),
            env=environment(self.hub, self.folder / name),
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told


def test_a_host_fetches_only_the_files_with_its_rows(tmp_path: Path) -> None:
    """Files of two layouts: what was found out at the plan goes for all hosts."""
    names = [f"data/train-0000{n}-of-00003.parquet" for n in range(3)]
    files = {name: parquet(2 * n, x=[n, n + (0.5 if n else 0)]) for n, name in enumerate(names)}
    with Hub() as hub:
        repository = hub.add("datasets", "acme/many", files)
        host = Host(hub, tmp_path, "acme/many")
        planned = host.work("one")
        assert hub.fetched() == dict.fromkeys(names, 1)

        before = len(hub.calls)
        # A later commit is none of the job's business.
        repository.commit({**files, names[1]: parquet(50)})
        part = host.work("two", version=planned["version"], rows=[2, 4])
        assert part == {
            "version": planned["version"],
            "ids": planned["ids"][2:4],
            "said": planned["said"][2:4],
            "bytes": sum(len(picture(n)) for n in (2, 3)),
        }
        assert hub.fetched(before) == {names[1]: 1}

        before = len(hub.calls)
        part = host.work("two", version=planned["version"], rows=[0, 4])
        assert part["said"] == planned["said"][:4] == [{"x": x} for x in (0.0, 0.0, 1.0, 1.5)]
        assert hub.fetched(before) == {names[0]: 1}
        assert not [
            call for call in hub.calls[before:] if "/api/datasets" in call
        ]  # nobody was asked


def test_a_host_that_does_not_reach_the_hub_gives_the_work_back(tmp_path: Path) -> None:
    name = "data/train-00000-of-00001.parquet"
    with Hub() as hub:
        hub.add("datasets", "acme/away", {name: parquet(0)})
        host = Host(hub, tmp_path, "acme/away")
        version = host.work("one")["version"]
        hub.cuts[name] = 1000
        given = {"version": version, "rows": [0, 2]}
        assert host.work("two", **given)["error"] == "SourceElsewhere"
        hub.cuts.clear()
        hub.close()
        assert host.work("three", **given)["error"] == "SourceElsewhere"
        assert len(host.work("one", **given)["ids"]) == 2  # which has it


# --- the cache ------------------------------------------------------------------------------------

_TRIM = """
import os, sys, time
from pathlib import Path
from datasets import config
from pipeline.sources import cache
old, limit = sys.argv[1].split(","), float(sys.argv[2])
for mark in Path(config.HF_DATASETS_CACHE, "kindred", "used").iterdir():
    if mark.name in old:
        os.utime(mark, (time.time() - 1e6 - old.index(mark.name),) * 2)
for path in Path(os.environ["HF_HOME"]).rglob("*"):
    if "/used/" not in str(path):
        os.utime(path, (time.time() - 2e6,) * 2, follow_symlinks=False)
every = [*cache._fetched(), *cache._prepared()]
print(cache.trim(limit or (sum(each.size for each in every) - 1) / 1e9))
"""
ALL_BUT_A_BYTE = 0.0


def trim(hub: Hub, home: Path, old: list[str], limit: float) -> int:
    """As if these data sets had been used long ago, the last one the longest."""
    done = subprocess.run(
        [sys.executable, "-c", _TRIM, ",".join(old), str(limit)],
        env=environment(hub, home),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_what_was_not_used_for_long_leaves_the_cache_and_comes_again(tmp_path: Path) -> None:
    name = "data/train-00000-of-00001.parquet"
    with Hub() as hub:
        for each in ("used", "old", "older"):
            hub.add("datasets", f"acme/{each}", {name: parquet(0, 50)})
        hub.add("models", "acme/model", {"config.json": b"{}"})
        rows = b"".join(b'{"x": "%d"}\n' % n for n in range(5000))
        hub.add("datasets", "Acme/MadeOfText", {"train.jsonl": rows})
        home = tmp_path / "one"
        wanted = {each: {"dataset": f"acme/{each}"} for each in ("used", "old", "older")}
        opened(hub, home, {**wanted, "text": {"dataset": "Acme/MadeOfText"}})
        get_model = "import huggingface_hub as h; h.snapshot_download('acme/model')"
        subprocess.run(
            [sys.executable, "-c", get_model],
            env=environment(hub, home),
            check=True,
            capture_output=True,
        )

        def kept() -> set[str]:
            found = {path.name.removeprefix("datasets--") for path in (home / "hub").iterdir()}
            found |= {path.name for path in (home / "datasets").iterdir() if path.is_dir()}
            return {each.casefold() for each in found if "acme" in each.casefold()}

        everything = kept()
        prepared = {"acme___made_of_text"} & everything
        assert prepared
        model = {each for each in everything if each.startswith("models--")}
        assert len(model) == 1

        assert trim(hub, home, ["acmeold", "acmeolder"], 1.0) == 0
        assert kept() == everything
        assert trim(hub, home, ["acmeold", "acmeolder"], ALL_BUT_A_BYTE) > 0
        assert kept() == everything - {"acme--older"}
        assert trim(hub, home, ["acmeold", "acmeolder"], 1e-9) > 0
        assert kept() == everything - {"acme--older", "acme--old"}  # others are in use
        assert trim(hub, home, ["acmemadeoftext"], 1e-9) > 0
        assert kept() == {"acme--used", *model}

        before = len(hub.calls)
        assert len(opened(hub, home, wanted)["old"]) == 50
        assert hub.fetched(before)[name] == 2
