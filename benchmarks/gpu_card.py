"""Measures decoding on the card: whether it agrees with the CPU, how fast it is, and where the time
goes. Without a card a stand-in decodes, so that all of it runs.
"""

import io
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.card_codecs import PillowCodec, Torchvision
from benchmarks.fidelity import compare
from benchmarks.gpu_setup import Bench, Measured, one, per, tried
from benchmarks.machine import cores
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from pipeline.images.card.batches import Clock, Maker, brightness, exact_dtype
from pipeline.images.card.codecs import Codec, NvImageCodec
from pipeline.images.card.decoders import CardDecoders
from pipeline.images.card.readable import Frame, frame_of
from pipeline.images.card.resampling import Planes, resize_for, resized
from pipeline.images.card.samples import agreeing, encodes
from pipeline.images.decoders import Decoders
from pipeline.images.hashes import hash_distance, hash_of, perceptual_hash
from pipeline.images.picture import Picture, Unusable, decode
from pipeline.images.preparing import Order, Prepared, prepare

CAP = 10**8
PREVIEW = 512

Makers = dict[str, Callable[[], Codec]]


def makers(bench: Bench) -> Makers:
    """What can decode, by name. The first is Kindred's."""
    if bench.cpu:
        return {"a stand-in": lambda: PillowCodec(bench.device)}
    return {
        "nvImageCodec": lambda: NvImageCodec(bench.device),
        "nvImageCodec without engines": lambda: NvImageCodec(bench.device, 0.0),
        "nvImageCodec, engines and processors": lambda: NvImageCodec(bench.device, 0.6),
        "torchvision": lambda: Torchvision(bench.device),
    }


def chosen(bench: Bench) -> Callable[[], Codec]:
    """Kindred's, or else the first that decodes here."""
    return makers(bench)[name_of_chosen(bench)]


def name_of_chosen(bench: Bench) -> str:
    for name, make in makers(bench).items():
        try:
            if agreeing(make()):
                return name
        except Exception:  # noqa: BLE001, S112 - not installed, or unfit for this card
            continue
    raise RuntimeError("nothing here decodes on the card")


def encoder_of(bench: Bench) -> Encoder:
    device = "cpu" if bench.cpu else "cuda"
    return Encoder.load(Settings(model=str(bench.model), data=bench.folder, device=device).encoder)


# --- whether it agrees ---------------------------------------------------------------------------


def agreement(bench: Bench) -> Iterator[Measured]:
    """Compares the card's pixels, hashes, vectors and verdicts with those of the CPU."""
    encoder, files = encoder_of(bench), bench.photographs()
    order = Order(encoder.steps, preview=PREVIEW)
    with ThreadPoolExecutor(cores()) as pool:
        expected = [*pool.map(lambda data: prepare(data, CAP, order), files)]
        yield Measured("products are exact in", None, "", str(exact_dtype(bench.device)))
        yield from _resizing(bench, encoder, files)
        vectors = _vectors(encoder, expected)
        yield from _compared(
            "the CPU's pixels in another order", _again(encoder, expected), vectors
        )
        for name, make in makers(bench).items():
            try:
                codec = make()
                yield Measured(
                    f"{name}: kinds that agree",
                    None,
                    "",
                    ", ".join(sorted(agreeing(codec))) or "none",
                )
                yield Measured(f"{name}: encodes", None, "", str(encodes(codec)))
                yield from _apart(name, codec, files)
                made = _made(codec, files, order)
                yield from _results(name, made, expected, vectors, encoder)
            except Exception as error:  # noqa: BLE001 - not installed, or unfit for this card
                yield tried(name, "", lambda e=error: _raise(e))
    yield from _verdicts(bench, files, order)


def _raise(error: Exception) -> float:
    raise error


def _resizing(bench: Bench, encoder: Encoder, files: Sequence[bytes]) -> Iterator[Measured]:
    """Of the same decoded pixels: how many values of the resize, and hashes, are the same."""
    sizes = [(600, 450), (601, 453), (1024, 768), (300, 1000), (2000, 1500)][
        : 5 if len(files) > 50 else 2
    ]
    for size in sizes:
        pictures = [Image.open(io.BytesIO(data)).convert("RGB").resize(size) for data in files[:16]]
        batch = torch.from_numpy(np.stack([np.asarray(one) for one in pictures])).to(bench.device)
        how = resize_for(encoder.steps, *size)
        assert how is not None
        for dtype in (torch.float32,) if bench.cpu else (torch.float16, torch.float32):
            what = f"resize of {size[0]}x{size[1]} in {dtype}: the same values as Pillow's"
            try:
                with torch.inference_mode():
                    planes = Planes.of(batch.permute(0, 3, 1, 2), dtype)
                    ours = resized(planes, how).cpu().numpy()
                    grey = brightness(planes).cpu().numpy()
            except Exception as error:  # noqa: BLE001 - a product that this torch cannot compute
                yield tried(what, "%", lambda e=error: _raise(e))
                continue
            theirs = np.stack([encoder.steps.pixels(one) for one in pictures])
            apart = np.abs(ours.astype(int) - theirs)
            yield one(what, 100 * float((apart == 0).mean()), "%", f"most apart {apart.max()}")
            same = [
                hash_of(g) == perceptual_hash(Picture(p))
                for g, p in zip(grey, pictures, strict=True)
            ]
            yield one(f"- the same hashes, {dtype}", 100 * float(np.mean(same)), "%")


def _apart(name: str, codec: Codec, files: Sequence[bytes]) -> Iterator[Measured]:
    decoded = codec.decode(files)
    lost = sum(image is None for image in decoded)
    yield one(f"{name}: not decoded", lost, "images")
    differences = []
    for data, image in zip(files[:64], decoded, strict=False):
        theirs = decode(data, CAP)
        if image is not None and isinstance(theirs, Picture):
            differences.append(
                np.abs(image.cpu().numpy().astype(int) - np.asarray(theirs.image)).ravel()
            )
    if differences:
        apart = np.concatenate(differences)
        yield one(
            f"{name}: decoded pixels, difference in the mean", float(apart.mean()), "levels",
            f"most {apart.max()}, the same {100 * float((apart == 0).mean()):.2f} %",
        )  # fmt: skip


def _made(codec: Codec, files: Sequence[bytes], order: Order) -> "list[Prepared | None]":
    """By Kindred's own code, file by file of one size."""
    groups: dict[Frame, list[int]] = defaultdict(list)
    for number, data in enumerate(files):
        frame = frame_of(data, CAP)
        if frame is not None:
            groups[frame].append(number)
    made: list[Prepared | None] = [None] * len(files)
    maker = Maker(codec, dtype=exact_dtype(codec.device))
    with torch.inference_mode():
        for frame, numbers in groups.items():
            found = maker.make([files[n] for n in numbers], frame, order)
            for number, prepared in zip(numbers, found, strict=True):
                made[number] = prepared
    return made


def _results(
    name: str,
    made: "Sequence[Prepared | None]",
    expected: Sequence[Any],
    vectors: np.ndarray,
    encoder: Encoder,
) -> Iterator[Measured]:
    both = [(n, a) for n, a in enumerate(made) if a is not None]
    yield one(f"{name}: by the card", len(both), "images", f"of {len(made)}")
    if not both:
        return
    yield from _compared(
        name, _vectors(encoder, [a for _, a in both]), vectors[[n for n, _ in both]]
    )
    bits = [hash_distance(a.phash, expected[n].phash) for n, a in both]
    same = 100 * float(np.mean([b == 0 for b in bits]))
    yield one(f"{name}: hashes, most bits apart", max(bits), "of 256", f"the same {same:.1f} %")
    pairs = [(a.preview, expected[n].preview) for n, a in both[:32]]
    apart = [np.abs(_shown(a).astype(int) - _shown(b)).mean() for a, b in pairs]
    sizes = [len(a) / len(b) for a, b in pairs]
    yield one(
        f"{name}: previews, difference in the mean", float(np.mean(apart)), "levels",
        f"{100 * float(np.mean(sizes)):.0f} % of the bytes",
    )  # fmt: skip


def _shown(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _vectors(encoder: Encoder, made: Sequence[Any]) -> np.ndarray:
    return encoder.embed(encoder.stack([one.pixels for one in made]), bulk=True)


def _again(encoder: Encoder, made: Sequence[Any]) -> np.ndarray:
    """In single batches of an odd size: rounding depends on the batch."""
    turned = [*reversed(made)]
    return np.concatenate(
        [_vectors(encoder, turned[n : n + 37]) for n in range(0, len(turned), 37)]
    )[::-1]


def _compared(name: str, vectors: np.ndarray, expected: np.ndarray) -> Iterator[Measured]:
    found = compare(vectors, expected)
    note = f"lowest cosine {found.lowest_cosine:.6f}, {found.images} images"
    yield one(f"{name}: the same {found.neighbours} neighbours", 100 * found.overlap, "%", note)


def damaged(files: Sequence[bytes]) -> dict[str, bytes]:
    """Files that the card must not decode in another way than the CPU, by what is wrong."""
    chance, found = random.Random(0), {}
    whole = files[0]
    image = Image.open(io.BytesIO(whole)).convert("RGB")
    for share in (5, 20, 50, 80, 99):
        cut = whole[: len(whole) * share // 100]
        found[f"cut at {share} %"] = cut
        found[f"cut at {share} %, with an end"] = cut + b"\xff\xd9"
    found["without its end"] = whole[:-2]
    found["with more behind"] = whole + b"more"
    found["empty"], found["noise"] = b"", chance.randbytes(5000)
    for number in range(24):
        data = bytearray(files[number % len(files)])
        data[chance.randrange(2, len(data))] ^= 1 << chance.randrange(8)
        found[f"a bit turned, {number}"] = bytes(data)
    for number in range(12):
        data = bytearray(files[number % len(files)])
        start = chance.randrange(700, len(data) - 600)
        data[start : start + 500] = bytes(500)
        found[f"500 bytes lost, {number}"] = bytes(data)
    for name, kind, options in (
        ("progressive", "JPEG", {"progressive": True}),
        ("of full colours", "JPEG", {"subsampling": 0}),
        ("with restarts", "JPEG", {"restart_marker_blocks": 8}),
        ("PNG", "PNG", {}),
        ("turned by EXIF", "JPEG", {"exif": _turned()}),
    ):
        found[name] = _written(image, kind, options)
    found["CMYK"] = _written(image.convert("CMYK"), "JPEG", {})
    found["grey"] = _written(image.convert("L"), "JPEG", {})
    found["tiny"] = _written(image.resize((5, 5)), "JPEG", {})
    found["long"] = _written(image.resize((3000, 20)), "JPEG", {})
    return found


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _written(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _verdicts(bench: Bench, files: Sequence[bytes], order: Order) -> Iterator[Measured]:
    """Of damaged and odd files: whether card and CPU say the same, and see the same."""
    cases = damaged(files)
    with closing(_pool(bench, threads=1)) as pool:
        futures = {name: pool.submit(data, order) for name, data in cases.items()}
        made = {name: future.result() for name, future in futures.items()}
    other, shown, by_card = [], [], 0
    for name, data in cases.items():
        expected, found = prepare(data, CAP, order), made[name]
        by_card += isinstance(found, Prepared) and not isinstance(found.pixels, np.ndarray)
        if isinstance(expected, Unusable) or isinstance(found, Unusable):
            if expected != found:
                other.append(name)
        elif (expected.width, expected.height) != (found.width, found.height):
            other.append(name)
        else:
            pixels = _numpy(found.pixels).astype(int)
            if np.abs(pixels - np.asarray(expected.pixels)).mean() > 3:
                shown.append(name)
    yield one("damaged and odd files: another verdict", len(other), "files", "; ".join(other)[:90])
    yield one(
        "- the same verdict, another picture", len(shown), "files",
        f"of {len(cases)}, {by_card} by the card: {'; '.join(shown)}"[:200],
    )  # fmt: skip


def _numpy(pixels: Any) -> np.ndarray:
    return pixels if isinstance(pixels, np.ndarray) else pixels.cpu().numpy()


def _pool(bench: Bench, **options: Any) -> CardDecoders:
    return CardDecoders(Decoders(1, CAP, 30.0), chosen(bench), CAP, **options)


# --- how fast it is ------------------------------------------------------------------------------


def speed(bench: Bench) -> Iterator[Measured]:
    """Measures whole pools of decoders, encoders alone, each stage of a batch, decoders alone."""
    files = bench.photographs()
    size = 2 if bench.cpu else 256
    batch = [*itertools.islice(itertools.cycle(files), size)]
    encoder = encoder_of(bench)
    yield tried(
        "look whether the card may have it", "ms an image",
        lambda: per(bench.rate(lambda: [frame_of(one, CAP) for one in batch], size), 1000),
    )  # fmt: skip
    yield Measured("what decodes from here on", None, "", name_of_chosen(bench))
    with torch.inference_mode():
        yield from _by_stage(bench, encoder, batch)
        yield from _encoding(bench, size)
    order = Order(encoder.steps, preview=PREVIEW)
    for threads in (1,) if bench.cpu else (1, 2, 3, 4):
        what = f"bytes to prepared, {threads} threads, previews encoded by the card"
        yield tried(
            what, "images/s", lambda n=threads: _prepared(bench, files, order, {"threads": n})
        )
    yield tried(
        "the same without previews, 2 threads", "images/s",
        lambda: _prepared(bench, files, Order(encoder.steps), {"threads": 2}),
    )  # fmt: skip
    with ThreadPoolExecutor(max(1, cores() - 2)) as writers:
        yield tried(
            "bytes to prepared, 2 threads, previews encoded by the CPU", "images/s",
            lambda: _prepared(bench, files, order, {"threads": 2, "writers": writers}),
        )  # fmt: skip
    with torch.inference_mode():
        for name, make in makers(bench).items():
            yield tried(
                f"{name}: decode alone, {size} images", "images/s",
                lambda m=make: bench.rate(_decoding(m(), batch), size),
            )  # fmt: skip


def _encoding(bench: Bench, size: int) -> Iterator[Measured]:
    """Encodes previews of 512 pixels, by so many of nvImageCodec's threads, and by torchvision."""
    images = torch.stack([
        torch.from_numpy(_shown(data)[:384, :512].copy())
        for data in itertools.islice(itertools.cycle(bench.photographs()), size)
    ]).to(bench.device)  # fmt: skip
    ways: dict[str, Callable[[], Codec]] = {
        f"nvImageCodec by {n} threads": lambda n=n: NvImageCodec(bench.device, encoding=n)
        for n in (1, 4, 8, 16)
    }
    ways["torchvision"] = lambda: Torchvision(bench.device)
    for name, make in ({"a stand-in": chosen(bench)} if bench.cpu else ways).items():
        try:
            codec = make()
            codec.encode(images, 88)
            start, spent, rounds = time.perf_counter(), time.process_time(), 1 if bench.cpu else 6
            for _ in range(rounds):
                codec.encode(images, 88)
            wall, spent = time.perf_counter() - start, time.process_time() - spent
        except Exception as error:  # noqa: BLE001 - as where it is not installed
            yield tried(f"encode previews, {name}", "ms an image", lambda e=error: _raise(e))
            continue
        done = rounds * size
        note = f"{1000 * spent / done:.3f} of cores"
        yield one(f"encode previews, {name}", 1000 * wall / done, "ms an image", note)


def _decoding(codec: Codec, batch: Sequence[bytes]) -> Callable[[], object]:
    return lambda: codec.decode(batch)


def _by_stage(bench: Bench, encoder: Encoder, batch: Sequence[bytes]) -> Iterator[Measured]:
    order, frame = Order(encoder.steps, preview=PREVIEW), frame_of(batch[0], CAP)
    assert frame is not None
    clock = Clock(bench.wait)
    maker = Maker(chosen(bench)(), None, clock, exact_dtype(bench.device))
    rounds = 1 if bench.cpu else 8
    try:
        maker.make(batch, frame, order)
        clock.seconds.clear()
        for _ in range(rounds):
            maker.make(batch, frame, order)
    except Exception as error:  # noqa: BLE001 - as where previews cannot be encoded
        yield tried("stages", "ms", lambda e=error: _raise(e))
        return
    for stage, seconds in clock.seconds.items():
        yield one(stage, 1000 * seconds / rounds / len(batch), "ms an image")


def _prepared(bench: Bench, files: Sequence[bytes], order: Order, options: dict[str, Any]) -> float:
    """The images a second of a pool that two lanes fill, each a batch ahead."""
    size = 2 if bench.cpu else 256
    batches = 1 if bench.cpu else 8
    batch = [*itertools.islice(itertools.cycle(files), size)]
    with closing(_pool(bench, **options)) as pool:

        def lane(count: int) -> None:
            following = [pool.submit(data, order) for data in batch]
            for _ in range(count):
                current = following
                following = [pool.submit(data, order) for data in batch]
                for future in current:
                    future.result()
            for future in following:
                future.result()

        lane(1)
        with ThreadPoolExecutor(2) as lanes:
            start = time.perf_counter()
            list(lanes.map(lane, [batches] * 2))
            return 2 * (batches + 1) * size / (time.perf_counter() - start)
