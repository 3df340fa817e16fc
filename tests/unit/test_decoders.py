"""Real decoders: what ends or hangs one is its image's alone."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL.Image import Resampling

from benchmarks.decoder_memory import kinds
from pipeline.base.errors import DecodersUnavailable
from pipeline.images import decoder_process, decoders
from pipeline.images.decoder_process import Hangs, Lost
from pipeline.images.decoders import CRASHES, HANGS, KILLED, Decoders, Result
from pipeline.images.decoding import BROKEN, NO_MEMORY, TOO_MANY_PIXELS, TOO_SMALL, Unusable
from pipeline.images.pixels import PixelSteps
from pipeline.images.preparing import Order, Prepared, prepare
from tests.chaos.data import picture, plain
from tests.chaos.decoder import GREEN, RED, YELLOW
from tests.made_bytes import drawing, encoded
from tests.system import until

CAP = 1_000_000
ORDER = Order(PixelSteps((16, 16), Resampling.BICUBIC, None), preview=32)
PATIENCE = 60.0

# The default suits every run of the suite; 500 are worth a run by hand after a change.
KILLS = int(os.environ.get("KINDRED_TEST_DECODER_KILLS", "40"))

linux = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")

Opening = Callable[..., Decoders]


@pytest.fixture
def opening(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opening]:
    monkeypatch.setattr(decoders, "PROGRAM", "tests.chaos.decoder")
    opened = []

    def open_decoders(count: int = 1, seconds: float = PATIENCE) -> Decoders:
        opened.append(Decoders(count, CAP, seconds))
        until(lambda: len(opened[-1].pids) == count + 1, "all decoders")
        return opened[-1]

    yield open_decoders
    for each in opened:
        each.close()


def result(future: "Future[Result]") -> Result:
    return future.result(PATIENCE)


def running(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# --- what a decoder makes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order",
    [
        ORDER,
        Order(PixelSteps(40, Resampling.BILINEAR, (32, 24))),
        Order(PixelSteps((16, 8), Resampling.LANCZOS, None), 20, (0.25, 0.0, 0.5, 1.0)),
    ],
)
def test_it_makes_what_this_process_would(opening: Opening, order: Order) -> None:
    pool = opening()
    for data in (encoded(drawing()), encoded(drawing(200, 300), "JPEG")):
        made, expected = result(pool.submit(data, order)), prepare(data, CAP, order)
        assert isinstance(made, Prepared) and isinstance(expected, Prepared)
        np.testing.assert_array_equal(made.pixels, expected.pixels)
        assert made.pixels.shape == (3, *order.steps.size)
        assert (made.preview, made.phash) == (expected.preview, expected.phash)
        assert (made.width, made.height) == (expected.width, expected.height)


def test_what_is_unusable_comes_back_as_the_same_value(opening: Opening) -> None:
    pool = opening()
    cases = [
        (encoded(drawing())[:-100], ORDER, BROKEN),
        (encoded(drawing(2000, 501)), ORDER, TOO_MANY_PIXELS),
        (encoded(drawing()), Order(ORDER.steps, crop=(0.0, 0.0, 0.01, 1.0)), TOO_SMALL),
    ]
    for data, order, expected in cases:
        assert result(pool.submit(data, order)) == expected


def test_files_larger_than_a_decoder_keeps_memory_for(opening: Opening) -> None:
    pool = opening()
    data = encoded(drawing()) + bytes(decoder_process.KEPT + 1)
    for _ in range(3):
        assert isinstance(result(pool.submit(data, ORDER)), Prepared)
        assert isinstance(result(pool.submit(encoded(drawing()), ORDER)), Prepared)


@linux
def test_it_has_nothing_worth_stealing(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "PROGRAM", "pipeline.images.decoder")
    monkeypatch.setenv("KINDRED_API_KEYS", "a-secret-of-the-worker")
    for pid in opening().pids:
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "numpy" in maps and "PIL" in maps
        assert not any(name in maps for name in ("qdrant", "pyarrow", "pydantic", "nvidia0"))
        assert b"a-secret-of" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_its_modules_import_no_model() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import pipeline.images.decoder, sys; print(*sys.modules)"],
        capture_output=True,
        check=True,
        text=True,
    )
    heavy = {"transformers", "qdrant_client", "qdrant_edge", "celery", "pyarrow", "pydantic"}
    assert not heavy & set(told.stdout.split())


# --- what ends or hangs one ----------------------------------------------------------------------


def test_a_picture_that_ends_its_decoder_is_rejected_and_all_others_are_made(
    opening: Opening,
) -> None:
    pool = opening(count=2)
    files = [plain(RED) if number in (3, 4, 17) else picture(number) for number in range(30)]

    made = [result(future) for future in [pool.submit(data, ORDER) for data in files]]

    assert {n: m for n, m in enumerate(made) if isinstance(m, Unusable)} == dict.fromkeys(
        (3, 4, 17), CRASHES
    )
    until(lambda: len(pool.pids) == 3, "new decoders")


def test_a_picture_that_hangs_is_rejected_and_all_others_are_made(opening: Opening) -> None:
    pool = opening(count=2, seconds=1)
    files = [plain(GREEN) if number in (3, 4) else picture(number) for number in range(12)]

    made = [result(future) for future in [pool.submit(data, ORDER) for data in files]]

    assert {n: m for n, m in enumerate(made) if isinstance(m, Unusable)} == dict.fromkeys(
        (3, 4), HANGS
    )


@linux
def test_a_picture_that_takes_too_much_memory_is_rejected_and_its_decoder_lives(
    opening: Opening,
) -> None:
    pool = opening()
    before = set(pool.pids)
    assert result(pool.submit(plain(YELLOW), ORDER)) == NO_MEMORY
    assert isinstance(result(pool.submit(picture(1), ORDER)), Prepared)
    assert set(pool.pids) == before


@pytest.mark.parametrize("name", ["PNG, 12 bits in 16, transparent", "TIFF, grey f8", "WEBP"])
def test_the_largest_allowed_image_is_within_the_bound_of_memory(
    opening: Opening, name: str
) -> None:
    """`python -m benchmarks.decoder_memory` measures all kinds of images."""
    data = dict(kinds(side=1000))[name]()
    assert isinstance(result(opening().submit(data, ORDER)), Prepared)


def test_searches_wait_neither_for_bulk_work_nor_for_what_hangs(opening: Opening) -> None:
    pool = opening(count=1)
    hanging = pool.submit(plain(GREEN), ORDER)
    bulk = [pool.submit(picture(number), ORDER) for number in range(50)]

    searches = [pool.submit(picture(number), ORDER, urgent=True) for number in range(20)]

    assert all(isinstance(result(search), Prepared) for search in searches)
    assert not hanging.done() and not any(each.done() for each in bulk)


def test_a_search_that_hangs_keeps_no_other_waiting(opening: Opening) -> None:
    pool = opening(count=2)  # whichever takes it, one is left for searches and one for a job
    hanging = pool.submit(plain(GREEN), ORDER, urgent=True)
    made = [pool.submit(picture(number), ORDER, urgent=True) for number in range(5)]
    made += [pool.submit(picture(number), ORDER) for number in range(5)]
    assert all(isinstance(result(each), Prepared) for each in made)
    assert not hanging.done()


def test_decoders_killed_all_the_time_lose_and_reject_nothing(opening: Opening) -> None:
    """Idle ones and busy ones, while they start and while they work."""
    pool, draw = opening(count=2), random.Random(1)
    kills: list[int] = []

    def kill() -> None:
        while len(kills) < KILLS and not pool.closed:
            for pid in draw.sample(pids := pool.pids, min(1, len(pids))):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills.append(pid)
            pause.wait(draw.uniform(0, 0.1))

    pause, killer = threading.Event(), threading.Thread(target=kill)
    killer.start()
    made = 0
    while killer.is_alive():
        jobs = [pool.submit(picture(n), ORDER, urgent=n % 5 == 0) for n in range(40)]
        for job in as_completed(jobs, PATIENCE):
            assert isinstance(job.result(), Prepared), job.result()
            made += 1
    killer.join()
    assert len(kills) == KILLS and made >= 40
    until(lambda: len(pool.pids) == 3, "new decoders")


@linux
def test_a_template_that_ends_takes_its_decoders_along_and_is_replaced(opening: Opening) -> None:
    pool = opening()
    before = pool.pids
    os.kill(pool.template.pid, signal.SIGKILL)
    until(lambda: not any(map(running, before)), "the end of its decoders")
    assert isinstance(result(pool.submit(picture(1), ORDER)), Prepared)
    until(lambda: len(pool.pids) == 2 and not set(pool.pids) & set(before), "new decoders")


@linux
def test_an_idle_decoder_that_ends_is_replaced(opening: Opening) -> None:
    pool = opening()
    before = pool.pids
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(pool.pids) == 2 and not set(pool.pids) & set(before), "new decoders")
    assert isinstance(result(pool.submit(picture(1), ORDER)), Prepared)


class Played:
    """A decoder that ends as it is told: one end for each try of the file `data`, then it works."""

    ends: ClassVar[dict[bytes, list[Exception]]] = {}
    beside: ClassVar[list[int]] = []  # the orders at once, at each end

    def __init__(self, template: object, max_pixels: int) -> None:
        self.pid, self.pending = 0, list[bytes]()

    def check(self) -> None: ...

    def kill(self) -> None: ...

    def end(self) -> None: ...

    def send(self, data: bytes, order: Order) -> None:
        self.pending.append(data)

    def receive(self, order: Order, pending: int, until: float) -> Result:
        assert pending == len(self.pending)
        data = self.pending.pop(0)
        if self.ends.get(data):
            self.beside.append(pending)
            raise self.ends[data].pop(0)
        return Unusable("worked on")


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([Lost(-signal.SIGSEGV)], Unusable("worked on")),
        ([Lost(-signal.SIGSEGV)] * 2, CRASHES),
        ([Lost(1), Hangs()], HANGS),
        ([Hangs(), ValueError("an answer that makes no sense")], CRASHES),
        ([Lost(-signal.SIGKILL)] * 9, Unusable("worked on")),
        ([Lost(-signal.SIGKILL)] * 10, KILLED),
        ([Lost(-signal.SIGKILL)] * 4 + [Lost(-signal.SIGABRT)], Unusable("worked on")),
        ([Lost(-signal.SIGKILL)] * 4 + [Lost(-signal.SIGABRT)] * 2, CRASHES),
    ],
    ids=str,
)
def test_how_often_an_image_may_lose_its_decoder(
    ends: list[Exception], expected: Unusable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more try, alone; but what kills a decoder from outside is rarely the image's fault."""
    monkeypatch.setattr(decoders, "DecoderProcess", Played)
    monkeypatch.setattr(Played, "ends", {b"bad": [*ends]})
    monkeypatch.setattr(Played, "beside", [])
    pool = Decoders(1, CAP, PATIENCE)
    futures = [pool.submit(data, ORDER) for data in (b"good", b"bad", *[b"good"] * 5)]

    made = [result(future) for future in futures]

    assert made.pop(1) == expected
    assert set(made) == {Unusable("worked on")}
    assert set(Played.beside[1:]) <= {1}, "it was not alone"
    pool.close()


def test_a_search_is_left_to_the_decoder_for_searches_if_that_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that bulk work goes on beside a search that hangs."""
    queue = decoders._Queue()
    first, second = (decoders._Job(b"", ORDER, urgent=True) for _ in range(2))
    resting = threading.Thread(target=queue.take, kwargs={"reserved": True, "busy": False})
    monkeypatch.setattr(decoders, "_IDLE_SECONDS", PATIENCE)
    resting.start()
    until(lambda: queue._resting, "a decoder that rests")
    with queue._lock:  # it does not get to work yet
        queue._waiting[True].append(first)
        assert not queue._line(reserved=False)
        assert queue._line(reserved=True)[0] is first
        queue._waiting[True].append(second)
        assert queue._line(reserved=False)[0] is first
    queue.close()
    resting.join()


def test_what_has_to_be_alone_or_is_a_search_waits_for_an_idle_decoder() -> None:
    queue = decoders._Queue()
    plain_job, again = decoders._Job(b"", ORDER, False), decoders._Job(b"", ORDER, False, ended=1)
    search = decoders._Job(b"", ORDER, True)
    for job in (search, again, plain_job):
        queue.put(job)
    for job in (search, again):
        assert queue.take(reserved=False, busy=True) is None
        assert queue.take(reserved=False, busy=False) is job
    assert queue.take(reserved=False, busy=True) is plain_job
    assert queue.take(reserved=True, busy=True) is None


# --- starts and ends -----------------------------------------------------------------------------


@linux
def test_where_none_starts_nothing_is_rejected_and_all_can_be_tried_again(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "PATIENCE", 0.2)
    pool = opening()
    works = decoders.PROGRAM
    monkeypatch.setattr(pool.template, "_program", "tests.no_such_module")
    monkeypatch.setattr(decoders, "PROGRAM", "tests.no_such_module")
    pids = pool.pids
    os.kill(pool.template.pid, signal.SIGKILL)
    until(lambda: not any(map(running, pids)), "the end of its decoders")
    for urgent in (True, False):
        with pytest.raises(DecodersUnavailable):
            result(pool.submit(picture(1), ORDER, urgent=urgent))
    with pytest.raises(DecodersUnavailable):
        Decoders(1, CAP, PATIENCE)

    monkeypatch.setattr(pool.template, "_program", works)
    until(lambda: pool.pids, "a decoder")
    assert isinstance(result(pool.submit(picture(1), ORDER, urgent=True)), Prepared)


@linux
def test_closing_ends_all_at_once_and_says_so_to_what_waits(opening: Opening) -> None:
    pool = opening()
    pids = pool.pids
    jobs = [pool.submit(plain(GREEN), ORDER) for _ in range(5)]

    pool.close()

    assert not any(map(running, pids))
    for job in [*jobs, pool.submit(picture(1), ORDER)]:
        with pytest.raises(DecodersUnavailable):
            result(job)


_WORKER = """
import sys, time
from PIL.Image import Resampling
from pipeline.images import decoders
from pipeline.images.pixels import PixelSteps
from pipeline.images.preparing import Order
from tests.chaos.data import plain
from tests.chaos.decoder import GREEN
decoders.PROGRAM = "tests.chaos.decoder"
pool = decoders.Decoders(2, 10**6, 60)
while len(pool.pids) < 3:
    time.sleep(0.01)
pool.submit(plain(GREEN), Order(PixelSteps((16, 16), Resampling.BICUBIC, None)))
print(*pool.pids, flush=True)
if sys.argv[1] == "waits":
    sys.stdin.read()
"""


@linux
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_they_end_with_their_worker_however_it_ends(end: signal.Signals | None) -> None:
    """Also the one that hangs; and no shared memory is left."""
    shared = set(Path("/dev/shm").iterdir())
    command = [sys.executable, "-c", _WORKER, "waits" if end else "returns"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        assert len(pids) == 3
        if end:
            assert all(map(running, pids))
            worker.send_signal(end)
        worker.wait(PATIENCE)
    until(lambda: not any(map(running, pids)), "the end of the decoders")
    assert not {name for name in set(Path("/dev/shm").iterdir()) - shared if "kindred" in name.name}


@linux
def test_signals_that_are_meant_for_the_worker_do_not_end_them(opening: Opening) -> None:
    """A terminal sends its interrupt, and a supervisor its end, to every process."""
    pool = opening()
    before = set(pool.pids)
    for pid in before:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
    for urgent in (True, False):
        assert isinstance(result(pool.submit(picture(1), ORDER, urgent=urgent)), Prepared)
    assert set(pool.pids) == before


def test_nothing_of_an_image_reaches_what_a_fault_of_ours_says(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = opening()
    impossible: Any = Order(PixelSteps((0, 0), Resampling.BICUBIC, None))
    with pytest.raises(RuntimeError, match="a decoder failed: ValueError at"):
        result(pool.submit(picture(1), impossible))
    assert isinstance(result(pool.submit(picture(1), ORDER)), Prepared)
