"""Pictures that end, hang or overfill a decoder or a worker, and a worker whose encoder breaks."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.images.decoders import CRASHES, HANGS
from pipeline.lifecycle.ingest import POISON, TOO_LARGE
from tests.chaos import checks, data
from tests.chaos.decoder import GREEN, RED
from tests.chaos.rig import Rig
from tests.chaos.worker import BLUE, ENCODER_BROKEN, WHITE
from tests.system import until

EXIT_TRY_AGAIN = 75
REASONS = {RED: CRASHES.reason, GREEN: HANGS.reason, BLUE: TOO_LARGE}
POISONED = {7: RED, 21: GREEN, 22: BLUE, 38: RED}


@pytest.fixture
def rig(tmp_path: Path, encoder: Path) -> Iterator[Rig]:
    with Rig(tmp_path, encoder, DECODE_SECONDS="1.5") as running:
        yield running


def submit(rig: Rig, folder: Path, poisoned: Mapping[int, data.Colour]) -> list[str]:
    """A job of 60 pictures, some of them poison, to its end; returns its images' ids."""
    pictures = [
        data.plain(poisoned[number]) if number in poisoned else data.picture(number)
        for number in range(60)
    ]
    ids = data.write_pictures(folder, "p", pictures)
    job = rig.system.submit(folder)["id"]
    rig.jobs[job] = ids
    rig.wait(lambda: rig.unfinished() == 0, "the end of the job")
    view = rig.system.job(job)
    embedded = len(pictures) - len(poisoned)
    assert (view["state"], view["embedded"]) == ("completed_with_rejections", embedded), view
    return ids


def check_all_is_right(rig: Rig, ids: Sequence[str], poisoned: Mapping[int, data.Colour]) -> None:
    rig.wait(lambda: not checks.nothing_is_owed(rig), "the end of all that is owed")
    rig.system.stop()
    held = {key for number, key in enumerate(ids) if number not in poisoned}
    assert checks.store_is_right(rig, held) == []


def test_what_ends_or_hangs_a_decoder_is_rejected_by_name_and_its_worker_goes_on(
    rig: Rig, tmp_path: Path
) -> None:
    """Two shards at once, and one worker from beginning to end."""
    pid = rig.worker.pid

    ids = submit(rig, tmp_path / "poisoned", POISONED)

    reasons = {row["image_id"]: row["reason"] for row in checks.rejections(rig)}
    assert reasons == {ids[row]: REASONS[colour] for row, colour in POISONED.items()}
    assert (rig.worker.pid, rig.worker.starts, rig.exits) == (pid, 1, [])
    check_all_is_right(rig, ids, POISONED)


def test_what_ends_a_worker_is_rejected_by_name_and_all_else_is_embedded(
    rig: Rig, tmp_path: Path
) -> None:
    """Two shards at once: the one that has no poison must not be blamed for the other's."""
    ids = submit(rig, tmp_path / "poisoned", {7: WHITE})

    assert [(r["image_id"], r["reason"]) for r in checks.rejections(rig)] == [(ids[7], POISON)]
    assert rig.worker.starts > 3, "three workers were to end over it alone"
    check_all_is_right(rig, ids, {7: WHITE})


def test_a_search_by_a_picture_that_ends_or_hangs_its_decoder_is_refused_and_says_so(
    rig: Rig,
) -> None:
    pid = rig.worker.pid
    for colour in (RED, GREEN, BLUE):
        ended = failed_search(rig, colour)

        assert ended["error"]["status"] == 422
        if colour != BLUE:
            assert ended["error"]["detail"] == f"image: {REASONS[colour]}"
    assert (rig.worker.pid, rig.exits) == (pid, [])
    rig.wait(rig.answers_a_search, "an answer to the next search")


def test_a_search_that_ends_its_worker_fails_and_says_so(rig: Rig) -> None:
    assert failed_search(rig, WHITE)["error"]["detail"]
    rig.wait(rig.answers_a_search, "an answer to the next search")


def failed_search(rig: Rig, colour: data.Colour) -> Any:
    search = rig.http.post("/v1/searches", files={"image": data.plain(colour)}).json()["id"]

    def failed() -> Any:
        view = rig.http.get(f"/v1/searches/{search}").json()
        return view if view["state"] == "failed" else None

    return rig.wait(failed, "the end of the search")


def test_a_worker_whose_encoder_breaks_is_not_ready_and_starts_again(
    tmp_path: Path, encoder: Path
) -> None:
    """And no picture is blamed for it."""
    with Rig(tmp_path, encoder) as rig:
        rig.submit(rows=800, seed=1)
        rig.wait(rig.done, "the first image")
        (rig.switches / ENCODER_BROKEN).touch()

        until(lambda: not rig.worker.running, "the end of the worker")

        assert rig.worker.exit_code == EXIT_TRY_AGAIN
        assert rig.http.get("/readyz").status_code == 503 or until(
            lambda: rig.http.get("/readyz").status_code == 503, "the end of its heartbeats"
        )
        rig.wait(lambda: rig.unfinished() == 0, "the end of the job")
        assert checks.jobs_are_closed(rig) == []


def test_an_idle_worker_whose_encoder_breaks_says_so_before_it_ends(
    tmp_path: Path, encoder: Path
) -> None:
    with Rig(tmp_path, encoder, HEARTBEAT_SECONDS="0.1") as rig:
        rig.worker.program.environment["CHAOS_PROBE_SECONDS"] = "1"  # type: ignore[index]
        rig.system.stop()
        rig.system.__enter__()
        (rig.switches / ENCODER_BROKEN).touch()

        until(lambda: rig.http.get("/readyz").status_code == 503, "a worker that is not ready")

        assert rig.worker.running, "it was to say so while it lived"
        until(lambda: not rig.worker.running, "the end of the worker")
        assert rig.worker.exit_code == EXIT_TRY_AGAIN
        rig.keep_up()
        rig.system.wait_ready()
