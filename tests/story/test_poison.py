"""Pictures that end, hang or overfill a worker, and a worker whose encoder breaks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.lifecycle.ingest import POISON, TOO_LARGE
from tests.chaos import checks, data
from tests.chaos.rig import Rig
from tests.chaos.worker import BLUE, ENCODER_BROKEN, GREEN, RED
from tests.system import until

EXIT_TRY_AGAIN = 75
POISONED = {7: RED, 21: GREEN, 22: BLUE, 38: RED}


@pytest.fixture
def rig(tmp_path: Path, encoder: Path) -> Iterator[Rig]:
    with Rig(tmp_path, encoder, DECODE_SECONDS="1.5") as running:
        yield running


def test_what_ends_or_hangs_a_worker_is_set_aside_by_name_and_all_else_is_embedded(
    rig: Rig, tmp_path: Path
) -> None:
    """Two shards at once: the one that has no poison must not be blamed for the other's."""
    pictures = [
        data.plain(POISONED[number]) if number in POISONED else data.picture(number)
        for number in range(60)
    ]
    ids = data.write_pictures(tmp_path / "poisoned", "p", pictures)
    job = rig.system.submit(tmp_path / "poisoned")["id"]
    rig.jobs[job] = ids

    rig.wait(lambda: rig.unfinished() == 0, "the end of the job")

    view = rig.system.job(job)
    assert (view["state"], view["embedded"]) == ("completed_with_rejections", 56), view
    reasons = {row["image_id"]: row["reason"] for row in checks.rejections(rig)}
    assert reasons == {
        ids[row]: TOO_LARGE if colour == BLUE else POISON for row, colour in POISONED.items()
    }
    assert rig.exits.count(EXIT_TRY_AGAIN) >= 3, "ended by the picture that hangs"
    rig.wait(lambda: not checks.nothing_is_owed(rig), "the end of all that is owed")
    rig.system.stop()
    held = {key for number, key in enumerate(ids) if number not in POISONED}
    assert checks.store_is_right(rig, held) == []


def test_a_search_that_ends_or_hangs_its_worker_fails_and_says_so(rig: Rig) -> None:
    for colour in (RED, GREEN, BLUE):
        answer = rig.http.post("/v1/searches", files={"image": data.plain(colour)})
        search = answer.json()["id"]

        ended = rig.wait(
            lambda s=search: (
                (v := rig.http.get(f"/v1/searches/{s}").json())["state"] == "failed" and v
            ),
            "the end of the search",
        )

        assert ended["error"]["detail"]
    rig.wait(rig.answers_a_search, "an answer to the next search")


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
