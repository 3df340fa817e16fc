"""A watched folder: what is taken, when, and that a kill at any step loses and repeats nothing."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from cli.failure import CommandError, Missing, Unreachable
from cli.watch import watcher as watching
from cli.watch.choosing import batches, tables_of
from cli.watch.looking import Settling, Stamp, is_being_written, look
from cli.watch.moving import move
from cli.watch.sending import ByPath
from cli.watch.state import State
from cli.watch.watcher import Watcher, check
from pipeline.base.blobs import Blobs
from pipeline.base.errors import SourceError, SourceNotAllowed
from pipeline.sources.account import files_of_rows
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.base import Opening
from pipeline.sources.dataset import DatasetSource, forget_only
from pipeline.sources.registry import plan_source

NO_TIME = 0.0


class Api:
    """Ingests at once. A file whose bytes are `bad` is rejected; a known key starts nothing."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.by_key: dict[str, str] = {}
        self.ingested: list[tuple[str, bytes]] = []

    def submit(self, source: dict[str, Any], options: object, key: str) -> dict[str, Any]:
        if key in self.by_key:
            return self.jobs[self.by_key[key]]
        folder = Path(source["dataset"])
        read = [(name, (folder / name).read_bytes()) for name in source["only"]]
        self.ingested += read
        job = uuid4().hex
        bad = [
            {"row": n, "file": n, "reason": "it is bad"}
            for n, (_, data) in enumerate(read)
            if data == b"bad"
        ]
        self.by_key[key] = job
        self.jobs[job] = {"id": job, "state": "succeeded", "total": len(read), "bad": bad}
        self.jobs[job] |= {"rejected": len(bad), "embedded": len(read) - len(bad)}
        return self.jobs[job]

    def job(self, job: str) -> dict[str, Any]:
        if job not in self.jobs:
            raise Missing("There is no such job.")
        return self.jobs[job]

    def rejections(self, job: str) -> Iterator[dict[str, Any]]:
        yield from self.jobs[job]["bad"]


class Watched:
    """A folder and what a watcher keeps of it, over as many lives of watchers as it takes."""

    def __init__(self, tmp_path: Path, *, moves: bool = True) -> None:
        self.root, self.file, self.moves = tmp_path / "in", tmp_path / "state.sqlite", moves
        self.root.mkdir()
        self.api, self.said = Api(), []
        self.state: State | None = None

    def write(self, path: str, data: bytes = b"picture") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return file

    def watcher(self, settle: float = NO_TIME) -> Watcher:
        """A new one, as after a kill of the last one."""
        if self.state is not None:
            self.state.close()
        self.state = State(self.file, str(self.root))
        send = ByPath(self.api, self.root, {}, {})
        return Watcher(
            self.api, self.root, self.state, send, Settling(settle),
            lambda path: True, self.said.append, self.moves,
        )  # fmt: skip

    def run(self, watcher: Watcher | None = None) -> Watcher:
        """To the end of all that is there."""
        watcher = watcher or self.watcher()
        watcher.look()
        while watcher.look() or watcher.state.batches:
            watcher.advance()
        return watcher

    def files(self) -> set[str]:
        found = (path for path in self.root.rglob("*") if path.is_file())
        return {str(path.relative_to(self.root)) for path in found}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    if made.state is not None:
        made.state.close()


# --- what is taken -------------------------------------------------------------------------------


def test_a_file_is_moved_by_its_outcome(watched: Watched) -> None:
    watched.write("a.jpg")
    watched.write("ward 3/b.jpg", b"bad")
    assert watched.run().failed == 1
    assert watched.files() == {
        "done/a.jpg",
        "failed/ward 3/b.jpg",
        "failed/ward 3/b.jpg.reason.txt",
    }
    reason = (watched.root / "failed/ward 3/b.jpg.reason.txt").read_text()
    assert reason.startswith("it is bad (job ")
    assert "a.jpg" not in "".join(watched.said)


def test_files_that_stay_are_remembered_by_a_hash(tmp_path: Path) -> None:
    watched = Watched(tmp_path, moves=False)
    watched.write("ANNA_SMITH.jpg")
    watched.write("bad.jpg", b"bad")
    watched.run()
    watched.run()
    assert [name for name, _ in watched.api.ingested] == ["ANNA_SMITH.jpg", "bad.jpg"]
    watched.write("ANNA_SMITH.jpg", b"another picture")
    watched.run()
    assert watched.api.ingested[2:] == [("ANNA_SMITH.jpg", b"another picture")]
    assert watched.files() == {"ANNA_SMITH.jpg", "bad.jpg"}
    watched.state.close()
    assert b"SMITH" not in watched.file.read_bytes()


def test_a_name_that_comes_again_is_new_work(watched: Watched) -> None:
    watched.write("a.jpg")
    watched.run()
    watched.write("a.jpg", b"another")
    watched.run()
    assert watched.files() == {"done/a.jpg", "done/a (2).jpg"}
    assert watched.api.ingested == [("a.jpg", b"picture"), ("a.jpg", b"another")]


def test_a_file_that_changes_while_it_is_ingested_is_taken_again(watched: Watched) -> None:
    watched.write("a.jpg")
    watcher = watched.watcher()
    watcher.look()
    watcher.look()
    watched.api.job = lambda job: {"id": job, "state": "running"}  # type: ignore[method-assign]
    watcher.advance()
    watched.write("a.jpg", b"another")
    del watched.api.job
    watched.run(watched.run(watcher))
    assert [data for _, data in watched.api.ingested] == [b"picture", b"another"]
    assert watched.files() == {"done/a.jpg"}


@pytest.mark.parametrize(
    "name", ["a.jpg.part", "a.tmp", "a.jpg~", ".a.jpg", "~$a.jpg", "Thumbs.db", ".stage/a.jpg"]
)
def test_hidden_and_temporary_names_wait(watched: Watched, name: str) -> None:
    watched.write(name)
    watched.run()
    assert watched.files() == {name}
    assert not watched.api.ingested


def test_a_file_is_complete_once_it_has_been_the_same_for_a_while() -> None:
    now = [0.0]
    settling = Settling(10, lambda: now[0])
    first, second = Stamp(1, 1), Stamp(2, 2)
    assert settling.settled([("a", first)]) == []
    now[0] = 9
    assert settling.settled([("a", first), ("b", second)]) == []
    now[0] = 10
    assert settling.settled([("a", first), ("b", second)]) == [("a", first)]
    assert settling.settled([("a", second)]) == []
    now[0] = 30
    assert settling.settled([("a", second), ("b", second)]) == [("a", second)]


def test_a_file_that_is_open_for_writing_waits(watched: Watched) -> None:
    path = watched.write("a.jpg")
    with path.open("ab"):
        if not is_being_written(path):
            pytest.skip("this file system gives no leases")
        assert watched.run().waiting == 1
    assert not is_being_written(path)
    watched.run()
    assert watched.files() == {"done/a.jpg"}


def test_a_picture_goes_with_its_sidecar_and_a_table_stays() -> None:
    stamp = Stamp(1, 1)
    everything = ["metadata.csv", "s/a.jpg", "s/a.json", "s/b.jpg", "s/b.jpg.json", "c.parquet"]
    complete = dict.fromkeys(everything, stamp)
    tabular, pictures = batches(complete, everything, lambda path: True)
    assert tabular.tabular and [path for path, _ in tabular.files] == ["c.parquet"]
    assert [p for p, _ in pictures.files] == ["s/a.jpg", "s/a.json", "s/b.jpg", "s/b.jpg.json"]
    assert tables_of(["s/a.jpg"], [*everything, "t/metadata.csv"]) == ["metadata.csv"]
    del complete["s/b.jpg.json"]  # it is still being written
    *_, pictures = batches(complete, everything, lambda path: True)
    assert [path for path, _ in pictures.files] == ["s/a.jpg", "s/a.json"]


def test_a_folder_that_was_left_empty_goes_after_an_hour(watched: Watched) -> None:
    for name in ("new", "old"):
        (watched.root / name).mkdir()
    os.utime(watched.root / "old", (1, 1))
    assert list(look(watched.root, frozenset(), tidy=True)) == []
    assert [path.name for path in watched.root.iterdir()] == ["new"]


# --- what can go wrong ---------------------------------------------------------------------------


class Killed(BaseException):
    """As by SIGKILL: nothing of ours runs afterwards."""


STEPS = ("begin", "started", "sent", "judged", "settled")


def killing(monkeypatch: pytest.MonkeyPatch, watched: Watched, at: int) -> Callable[[], bool]:
    """Kills before and after the steps that change anything, at the one of this number.

    Says afterwards whether there was one of this number.
    """
    steps = count()

    def around(run: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if next(steps) == at:
                raise Killed
            done = run(*given, **named)
            if next(steps) == at:
                raise Killed
            return done

        return call

    for name in STEPS:
        monkeypatch.setattr(State, name, around(getattr(State, name)))
    monkeypatch.setattr(watched.api, "submit", around(watched.api.submit))
    monkeypatch.setattr(watching, "move", around(move))
    return lambda: next(steps) > at


@pytest.mark.parametrize("moves", [True, False])
def test_a_kill_at_any_step_loses_nothing_and_ingests_nothing_twice(
    tmp_path: Path, moves: bool
) -> None:
    for at in count():
        (tmp_path / str(at)).mkdir()
        watched = Watched(tmp_path / str(at), moves=moves)
        watched.write("a.jpg", b"a")
        watched.write("b.jpg", b"bad")
        with pytest.MonkeyPatch.context() as patch:
            reached = killing(patch, watched, at)
            with suppress(Killed):
                watched.run()
        watched.run()
        assert sorted(watched.api.ingested) == [("a.jpg", b"a"), ("b.jpg", b"bad")], at
        moved = {"done/a.jpg", "failed/b.jpg", "failed/b.jpg.reason.txt"}
        assert watched.files() == (moved if moves else {"a.jpg", "b.jpg"}), at
        assert not watched.state.batches
        watched.state.close()
        if not reached():
            break
    assert at >= 12


def test_an_api_that_is_away_is_waited_for(watched: Watched, monkeypatch: Any) -> None:
    watched.write("a.jpg")
    watcher = watched.watcher()
    watcher.look()
    watcher.look()

    def away(*_: object) -> None:
        raise Unreachable("no Kindred answers")

    with monkeypatch.context() as patch:
        patch.setattr(watched.api, "submit", away)
        watcher.patiently(watcher.advance)
        watcher.patiently(watcher.advance)
    assert watched.said == ["waiting: no Kindred answers"]
    watcher.patiently(watcher.advance)
    assert watched.files() == {"done/a.jpg"}


def test_a_share_that_is_away_is_waited_for_and_nothing_is_forgotten(tmp_path: Path) -> None:
    watched = Watched(tmp_path, moves=False)
    watched.write("a.jpg")
    watcher = watched.run()
    watched.root.rename(tmp_path / "away")
    watcher.patiently(watcher.look)
    assert "cannot be read" in watched.said[-1]
    (tmp_path / "away").rename(watched.root)
    watched.run(watcher)
    assert len(watched.api.ingested) == 1


def test_jobs_that_the_system_has_forgotten_are_submitted_again(watched: Watched) -> None:
    watched.write("a.jpg")
    watcher = watched.watcher()
    watcher.look()
    watcher.look()
    watched.api.job = lambda job: {"id": job, "state": "running"}  # type: ignore[method-assign]
    watcher.advance()
    del watched.api.job
    watched.api.jobs.clear()
    watched.api.by_key.clear()
    watched.run(watcher)
    assert watched.files() == {"done/a.jpg"}


def test_the_files_of_a_job_that_has_failed_have_failed(watched: Watched) -> None:
    watched.write("a.jpg")
    watched.api.job = lambda job: {"id": job, "state": "failed"}  # type: ignore[method-assign]
    watched.run()
    assert watched.files() == {"failed/a.jpg", "failed/a.jpg.reason.txt"}


def test_a_state_is_of_one_watcher_and_one_folder(tmp_path: Path) -> None:
    state = State(tmp_path / "state", "/srv/a")
    with pytest.raises(CommandError, match="another `kindred watch`"):
        State(tmp_path / "state", "/srv/a")
    state.close()
    with pytest.raises(CommandError, match="another folder"):
        State(tmp_path / "state", "/srv/b")
    State(tmp_path / "state", "/srv/a").close()


def test_a_folder_that_cannot_be_watched_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no such folder"):
        check(tmp_path / "none", moves=False)


# --- some files of a folder, where the workers read them -----------------------------------------


def test_a_job_of_some_files_keeps_their_names_in_its_blobs(tmp_path: Path) -> None:
    folder, blobs = tmp_path / "in", Blobs(str(tmp_path / "blobs"))
    (folder / "s").mkdir(parents=True)
    for name in ("a.png", "s/b.png", "s/c.png"):
        Image.new("RGB", (8, 8)).save(folder / name)
    (folder / "metadata.csv").write_text("file_name,dx\ns/b.png,nevus\nlater.png,nevus\n")
    asked = DatasetSource(dataset=str(folder), only=("s/b.png", "gone.png", "metadata.csv"))
    allowed = AllowedSources.of((str(folder),))
    asked.check(allowed)
    stored = asked.stored(blobs, "job")
    assert "b.png" not in stored.model_dump_json()
    reader = plan_source(stored, Opening(blobs, allowed, "job"))
    [row] = reader.read(0, len(reader))
    assert (row.metadata, row.fault) == ({"dx": "nevus"}, None)
    assert files_of_rows(blobs, "job", stored, [0]) == {0: 0}
    forget_only(blobs, "job")
    with pytest.raises(SourceError, match="list of its files is gone"):
        plan_source(stored, Opening(blobs, allowed, "job"))


def test_only_files_of_folders_can_be_asked_for() -> None:
    with pytest.raises(SourceNotAllowed):
        DatasetSource(dataset="org/name", only=("a.png",)).check(AllowedSources.of(("hub:*",)))
