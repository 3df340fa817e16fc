"""A comparison of encoders ends when it is cancelled: while it waits, embeds, and judges."""

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from pipeline.base.allowed_models import AllowedModels
from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.identity import point_id
from pipeline.base.settings import EncoderOptions
from pipeline.encoding import others
from pipeline.encoding.others import OtherEncoders
from pipeline.evaluation.collected import Reader
from pipeline.evaluation.comparison import Comparison
from pipeline.messages.comparisons import ComparisonRequest, ModelChoice
from tests.encoders import ENCODER
from tests.evaluated import Held, collection

CHOICE = ModelChoice(model="acme/other")


class Cancelled(Exception):
    pass


class Small:
    """An encoder of mean colours."""

    info, untrained, weights_bytes = ENCODER, True, 12
    closed = False

    class sizing:  # noqa: N801
        batch_size = 8

    def preprocess(self, picture: Any) -> Any:
        return np.asarray(picture.image, np.float32).mean((0, 1))

    def stack(self, pixels: Sequence[Any]) -> Any:
        return np.stack(pixels) + 1

    def embed(self, pixels: Any, *, bulk: bool) -> Any:
        return pixels

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def encoders(monkeypatch: pytest.MonkeyPatch) -> OtherEncoders:
    monkeypatch.setattr(others, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(OtherEncoders, "_load", lambda *_: Small())
    return OtherEncoders(cast(EncoderOptions, None), cast(AllowedModels, None))


@pytest.fixture(scope="module")
def held() -> Held:
    return collection()


@pytest.fixture(scope="module")
def blobs(held: Held, tmp_path_factory: pytest.TempPathFactory) -> Blobs:
    found = Blobs(str(tmp_path_factory.mktemp("blobs")))
    for number, payload in enumerate(held.payloads):
        body = io.BytesIO()
        Image.new("RGB", (8, 8), (number % 256, 90, 30)).save(body, "PNG")
        found.write(preview_name(point_id(payload["image_id"])), body.getvalue())
    return found


def comparison(
    held: Held, blobs: Blobs, encoders: OtherEncoders, tick: Callable[[float], None]
) -> Comparison:
    models = (ModelChoice(model="collection"), CHOICE)
    request = ComparisonRequest(models=models, label="dx", group="lesion_id", sample=400)
    reader = Reader(cast(Any, held), "dx", "lesion_id", None, {})
    return Comparison("0" * 36, request, reader, cast(Any, Small()), encoders, blobs, tick)


@contextmanager
def in_use(encoders: OtherEncoders) -> Iterator[None]:
    """Another thread has its encoder loaded."""
    loaded, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with encoders.opened(CHOICE, (), lambda: None):
            loaded.set()
            enough.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    loaded.wait()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def test_one_that_waits_for_another_ones_encoder_can_be_cancelled(
    held: Held, blobs: Blobs, encoders: OtherEncoders
) -> None:
    ticks: list[float] = []

    def tick(share: float) -> None:
        ticks.append(share)
        if ticks.count(0.5) > 5:  # it has read, and waits
            raise Cancelled

    with in_use(encoders), pytest.raises(Cancelled):
        comparison(held, blobs, encoders, tick).run()

    with encoders.opened(CHOICE, (), lambda: None) as free:
        assert free is not None


def test_it_can_be_cancelled_at_any_tick_and_frees_the_encoder(
    held: Held, blobs: Blobs, encoders: OtherEncoders
) -> None:
    every: list[float] = []
    whole = comparison(held, blobs, encoders, every.append).run()
    assert whole.images > 300
    assert sum(share == 1 for share in every) > 10  # while it judges, too

    for last in (1, len(every) // 4, len(every) // 2, len(every) - 1):
        seen: list[float] = []

        def tick(share: float, last: int = last, seen: list[float] = seen) -> None:
            seen.append(share)
            if len(seen) == last:
                raise Cancelled

        with pytest.raises(Cancelled):
            comparison(held, blobs, encoders, tick).run()
        assert len(seen) == last
        with encoders.opened(CHOICE, (), lambda: None) as free:
            assert free is not None
