"""Decoding on the card, with Pillow in the card's place: all of it but the card itself."""

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.Image import Resampling
from pydicom.uid import JPEGBaseline8Bit

from benchmarks.card_codecs import PillowCodec
from benchmarks.gpu_card import damaged
from pipeline.base.errors import ConfigurationError, DecodersUnavailable
from pipeline.base.settings import Settings
from pipeline.images.card import decoders as module
from pipeline.images.card.batches import Maker, brightness
from pipeline.images.card.codecs import MISSING, NvImageCodec
from pipeline.images.card.decoders import DISAGREES, CardDecoders
from pipeline.images.card.readable import frame_of
from pipeline.images.card.resampling import FILTERS, Axis, Planes, Resize, resize_for, resized
from pipeline.images.card.samples import samples
from pipeline.images.hashes import hash_distance, hash_of, hashes_of, perceptual_hash
from pipeline.images.picture import Picture, Unusable
from pipeline.images.pixels import PixelSteps
from pipeline.images.preparing import Order, Prepared, prepare
from pipeline.images.resizing import Resizer
from tests.decoders import InlineDecoders
from tests.made_dicom import encapsulated, header
from workers.opening import _on_card

CAP = 10**8
CPU = torch.device("cpu")
STEPS = PixelSteps((32, 32), Resampling.BICUBIC, None)
ORDER = Order(STEPS, preview=48)


def photograph(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    chance = np.random.default_rng(seed)
    return Image.fromarray(chance.integers(0, 256, (8, 8, 3), np.uint8)).resize(size)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


FILES = [jpeg(photograph(seed)) for seed in range(6)]


class Card(PillowCodec):
    """Notes the sizes of its batches. `trouble` is called with each."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.batches: list[int] = []
        self.trouble: Callable[[Sequence[bytes]], None] = lambda files: None

    def decode(self, files: Sequence[bytes]) -> list[torch.Tensor | None]:
        self.batches.append(len(files))
        self.trouble(files)
        return super().decode(files)


class Host(InlineDecoders):
    """Decodes on the CPU, and notes what."""

    def __init__(self) -> None:
        super().__init__(CAP)
        self.seen: list[bytes] = []

    def submit(self, data: bytes, order: Order, **how: Any) -> "Future[Prepared | Unusable]":
        self.seen.append(data)
        return super().submit(data, order, **how)


@pytest.fixture
def card() -> Card:
    return Card()


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def decoders(card: Card, host: Host) -> Iterator[CardDecoders]:
    with closing(CardDecoders(cast(Any, host), lambda: card, CAP, threads=1)) as opened:
        card.batches.clear()
        yield opened


def made(decoders: CardDecoders, files: Sequence[bytes]) -> list[Any]:
    return [each.result(30) for each in [decoders.submit(data, ORDER) for data in files]]


# --- which files the card may have ---------------------------------------------------------------


@pytest.mark.parametrize("kind", samples())
def test_the_card_may_have_each_plain_kind(kind: str) -> None:
    frame = frame_of(samples()[kind], CAP)
    assert frame is not None
    assert (frame.width, frame.height, frame.kind) == (96, 64, kind)


def test_the_card_may_have_restart_markers_in_their_turn() -> None:
    whole = jpeg(photograph(1, (256, 128)), restart_marker_blocks=4)
    assert frame_of(whole, CAP) is not None
    assert frame_of(whole.replace(b"\xff\xd2", b"\xff\xd3", 1), CAP) is None


@pytest.mark.parametrize(
    "name",
    [
        "cut at 50 %", "without its end", "with more behind", "empty", "noise", "progressive",
        "PNG", "turned by EXIF", "CMYK", "tiny",
    ],
)  # fmt: skip
def test_the_cpu_has_what_is_not_plain(name: str) -> None:
    files = [jpeg(photograph(seed, (160, 120)), quality=95) for seed in range(24)]
    assert frame_of(damaged(files)[name], CAP) is None


def test_the_cpu_has_markers_among_coded_data_and_a_file_cut_in_its_header() -> None:
    whole = FILES[0]
    middle = len(whole) - 40
    assert frame_of(whole[:middle] + b"\xff\xd0" + whole[middle:], CAP) is None
    assert frame_of(whole[:middle] + b"\xff\xd9" + whole[middle:], CAP) is None
    for end in range(2, 640, 7):
        assert frame_of(whole[:end] + b"\xff\xd9", CAP) is None or end > 600


def test_the_cpu_has_more_pixels_than_are_allowed() -> None:
    assert frame_of(FILES[0], 96 * 64) is not None
    assert frame_of(FILES[0], 96 * 64 - 1) is None


def test_whatever_is_damaged_gets_the_cpu_s_verdict(decoders: CardDecoders) -> None:
    files = [jpeg(photograph(seed, (160, 120)), quality=95) for seed in range(24)]
    for name, data in damaged(files).items():
        expected, [found] = prepare(data, CAP, ORDER), made(decoders, [data])
        assert isinstance(found, Unusable) == isinstance(expected, Unusable), name
        if isinstance(expected, Unusable):
            assert found == expected, name


# --- the same pixels as Pillow's -----------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(FILTERS))
@pytest.mark.parametrize("size", [(96, 64), (31, 77), (300, 40), (40, 300), (223, 225)])
@pytest.mark.parametrize("to", [(32, 32), (50, 20), (240, 230)])
def test_a_resize_is_pillow_s_to_the_bit(
    kind: Resampling, size: tuple[int, int], to: tuple[int, int]
) -> None:
    chance = np.random.default_rng(7)
    pictures = chance.integers(0, 256, (2, size[1], size[0], 3), np.uint8)
    how = Resize(Axis.whole(size[0], to[0]), Axis.whole(size[1], to[1]), kind)
    planes = Planes.of(torch.from_numpy(pictures).permute(0, 3, 1, 2), torch.float32)

    ours = resized(planes, how).permute(0, 2, 3, 1).numpy()

    theirs = np.stack([np.asarray(Image.fromarray(one).resize(to, kind)) for one in pictures])
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("resizer", ["pillow", "torch"])
@pytest.mark.parametrize("size", [(96, 64), (600, 450), (1000, 300), (64, 64), (30, 900)])
@pytest.mark.parametrize(
    "steps",
    [
        STEPS, PixelSteps(40, Resampling.BICUBIC, (32, 32)),
        PixelSteps((24, 40), Resampling.BILINEAR, None),
    ],
)  # fmt: skip
def test_the_model_s_pixels_and_hashes_are_the_decoders(
    size: tuple[int, int], steps: PixelSteps, resizer: Resizer
) -> None:
    picture, steps = photograph(3, size), replace(steps, resizer=resizer)
    batch = torch.from_numpy(np.asarray(picture).copy())[None].permute(0, 3, 1, 2)
    planes, how = Planes.of(batch, torch.float32), resize_for(steps, *size)
    assert how is not None
    theirs = Picture(picture)
    assert np.array_equal(resized(planes, how)[0].numpy(), steps.pixels_of(theirs))
    hashes = hashes_of(brightness(planes, resizer).numpy())
    assert hashes == [perceptual_hash(theirs, resizer)]


def test_hashes_of_many_are_those_of_each() -> None:
    many = np.random.default_rng(1).integers(0, 256, (9, 64, 64), np.uint8)
    assert hashes_of(many) == [hash_of(one) for one in many]
    assert hash_distance(*hashes_of(many[:2])) > 0


# --- batches -------------------------------------------------------------------------------------


def test_files_of_one_kind_are_decoded_together(
    decoders: CardDecoders, card: Card, host: Host
) -> None:
    found = made(decoders, FILES)

    assert sum(card.batches) == len(FILES)
    assert host.seen == []
    for data, one in zip(FILES, found, strict=True):
        expected = prepare(data, CAP, ORDER)
        assert isinstance(expected, Prepared)
        assert np.array_equal(one.pixels.numpy(), np.asarray(expected.pixels))
        assert (one.phash, one.width, one.height) == (expected.phash, 96, 64)
        assert Image.open(io.BytesIO(one.preview)).size == (48, 32)


def test_sizes_and_orders_are_decoded_apart(decoders: CardDecoders) -> None:
    others = [jpeg(photograph(9, (64, 96))), *FILES[:2]]
    assert [one.width for one in made(decoders, others)] == [64, 96, 96]
    without = decoders.submit(FILES[0], Order(STEPS)).result(30)
    assert isinstance(without, Prepared)
    assert without.preview == b""


@pytest.mark.parametrize("how", [{"urgent": True}, {"suspect": True}])
def test_searches_and_suspects_never_see_the_card(
    how: dict[str, bool], decoders: CardDecoders, card: Card, host: Host
) -> None:
    decoders.submit(FILES[0], ORDER, **how).result(30)
    assert (card.batches, host.seen) == ([], [FILES[0]])


def test_a_frame_of_dicom_is_the_cpu_s(decoders: CardDecoders, card: Card, host: Host) -> None:
    """Also where the frames are JPEGs that the card would read: the header says more of them."""
    dataset = header(64, 96, 3, 8, signed=False, PhotometricInterpretation="YBR_FULL_422")
    data = encapsulated(FILES[:2], JPEGBaseline8Bit, dataset)
    orders = [replace(ORDER, frame=n) for n in range(3)]
    first, second, beyond = [decoders.submit(data, order).result(30) for order in orders]
    assert (card.batches, host.seen) == ([], [data] * 3)
    for one, file in ((first, FILES[0]), (second, FILES[1])):
        alone = prepare(file, CAP, ORDER)
        assert isinstance(one, Prepared)
        assert isinstance(alone, Prepared)
        assert np.array_equal(np.asarray(one.pixels), np.asarray(alone.pixels))
    assert isinstance(beyond, Unusable)


def test_what_the_card_fails_on_goes_to_the_cpu(
    decoders: CardDecoders, card: Card, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Card, "_decoded", lambda self, data: None)
    [found] = made(decoders, FILES[:1])
    assert isinstance(found, Prepared)
    assert host.seen == FILES[:1]


def test_what_memory_does_not_hold_is_halved_and_a_single_one_goes_to_the_cpu(
    decoders: CardDecoders, card: Card, host: Host
) -> None:
    large = FILES[2]

    def trouble(files: Sequence[bytes]) -> None:
        if len(files) > 2 or large in files:
            raise torch.OutOfMemoryError

    card.trouble = trouble
    found = made(decoders, FILES)

    assert all(isinstance(one, Prepared) for one in found)
    assert host.seen == [large]
    assert min(card.batches) == 1


def test_what_the_card_refuses_goes_to_the_cpu(
    decoders: CardDecoders, card: Card, host: Host
) -> None:
    card.trouble = _raising(RuntimeError("refused"))
    assert all(isinstance(one, Prepared) for one in made(decoders, FILES))
    assert sorted(host.seen) == sorted(FILES)


def test_a_broken_card_blames_no_image(
    decoders: CardDecoders, card: Card, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_works", lambda device: False)
    card.trouble = _raising(RuntimeError("illegal access"))
    future = decoders.submit(FILES[0], ORDER)
    with pytest.raises(RuntimeError, match="illegal access"):
        future.result(30)
    assert host.seen == []


def test_what_waits_when_it_closes_fails_as_unavailable(card: Card, host: Host) -> None:
    entered, go = threading.Event(), threading.Event()
    decoders = CardDecoders(cast(Any, host), lambda: card, CAP, threads=1)

    def trouble(files: Sequence[bytes]) -> None:
        entered.set()
        go.wait(30)

    card.trouble = trouble
    working = decoders.submit(FILES[0], ORDER)
    assert entered.wait(30)
    waiting = decoders.submit(FILES[1], ORDER)
    closing_thread = threading.Thread(target=decoders.close)
    closing_thread.start()
    with pytest.raises(DecodersUnavailable):
        waiting.result(30)
    go.set()
    closing_thread.join(30)
    assert isinstance(working.result(30), Prepared)
    assert isinstance(decoders.submit(FILES[2], ORDER).result(30), Prepared)  # on the CPU
    assert host.seen == [FILES[2]]


def test_a_lane_wakes_when_all_of_its_batch_is_there(card: Card) -> None:
    """The first image's result comes last, so no thread wakes for each."""
    done: list[int] = []
    jobs = [module._Job(data, cast(Any, frame_of(data, CAP)), ORDER) for data in FILES]
    for number, job in enumerate(jobs):
        job.future.add_done_callback(lambda _, n=number: done.append(n))
    results = Maker(card).make(FILES, jobs[0].frame, ORDER)
    CardDecoders._answer(cast(Any, SimpleNamespace(_to_cpu=lambda *_: None)), jobs, results)
    assert done == [5, 4, 3, 2, 1, 0]


# --- where there is no card, or no decoder for it ------------------------------------------------


def test_a_card_that_sees_other_pictures_is_refused(host: Host) -> None:
    class Wrong(Card):
        def _decoded(self, data: bytes) -> torch.Tensor | None:
            found = super()._decoded(data)
            return None if found is None else 255 - found

    with pytest.raises(ConfigurationError) as refused:
        CardDecoders(cast(Any, host), Wrong, CAP, threads=1)
    assert refused.value.args[0] == (DISAGREES,) or DISAGREES in str(refused.value)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *_: Any) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ConfigurationError) as refused:
        NvImageCodec(CPU)
    assert MISSING in str(refused.value)


def test_without_cuda_a_worker_says_so(host: Host) -> None:
    settings = Settings(decode="card")
    encoder: Any = SimpleNamespace(device=CPU)
    with pytest.raises(ConfigurationError, match="needs a GPU"):
        _on_card(settings, encoder, cast(Any, host))
    assert _on_card(Settings(), encoder, cast(Any, host)) is cast(Any, host)


def _raising(error: Exception) -> Callable[[Sequence[bytes]], None]:
    def trouble(files: Sequence[bytes]) -> None:
        raise error

    return trouble
