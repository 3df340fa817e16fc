"""Evaluates encoders on exactly the same images of a collection, which it leaves as it is.

Of the other encoders no more than a sample is embedded, so its images are both what is searched by
and all that is searched in. They are the stored previews, not the originals.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.errors import InvalidQuery
from pipeline.base.identity import point_id
from pipeline.evaluation.collected import Collected, Reader
from pipeline.evaluation.judge import Judge
from pipeline.evaluation.threads import one_thread
from pipeline.images.picture import Picture
from pipeline.messages.comparisons import (
    ComparedModel,
    ComparedPair,
    ComparisonReport,
    ComparisonRequest,
    ModelChoice,
)
from pipeline.messages.evaluations import Ranking

if TYPE_CHECKING:
    from pipeline.encoding.encoder import Encoder
    from pipeline.encoding.others import OtherEncoders

_NOTES = (
    "Encoders were given the stored previews, not the originals; the collection's own vectors are "
    "those of the originals.",
    "The sample is all that was searched in, so an evaluation of the whole collection has other "
    "numbers.",
    "Speed is that of one lane of the worker, beside whatever else it did.",
)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _Embedded:
    """Of all `n` images of the sample: `vectors` (n, d), and which of them are `there` (n,)."""

    model: ComparedModel
    vectors: NDArray[np.float32]
    there: NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    id: str
    request: ComparisonRequest
    reader: Reader
    encoder: Encoder  # the collection's
    others: OtherEncoders
    blobs: Blobs
    tick: Callable[[float], None]
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> ComparisonReport:
        """Raises InvalidQuery, StoreUnavailable, BlobsUnavailable, and whatever `tick` raises."""
        with self._timed("read"):
            request, check = self.request, lambda: self.tick(0)
            sampled = self.reader.sample(request.sample, request.seed, check)
        with self._timed("embed"):
            embedded = [self._embed(number, sampled) for number in range(len(self.request.models))]
        with self._timed("evaluate"), one_thread():
            return self._report(sampled, embedded)

    def _embed(self, number: int, sampled: Collected) -> _Embedded:
        choice = self.request.models[number]
        if not choice.is_stored:
            return self._embed_anew(number, choice, sampled)
        self.tick((number + 1) / len(self.request.models))
        vectors, there = sampled.vectors, np.ones(len(sampled), bool)
        return _Embedded(_model(choice, self.encoder, None), vectors, there)

    def _embed_anew(self, number: int, choice: ModelChoice, sampled: Collected) -> _Embedded:
        models = len(self.request.models)
        here = ("models", number)
        with self.others.opened(choice, here, lambda: self.tick(number / models)) as encoder:
            vectors, there, seconds = _embedded(
                partial(_vectors, encoder),
                lambda n: self._preview(sampled.ids[n]),
                len(sampled),
                encoder.sizing.batch_size,
                lambda done: self.tick((number + done / len(sampled)) / models),
            )
            speed = int(there.sum()) / seconds if seconds else None
            return _Embedded(_model(choice, encoder, speed), vectors, there)

    def _preview(self, image_id: str) -> Image.Image | None:
        """None if it is deleted meanwhile, or cannot be read."""
        try:
            data = self.blobs.read(preview_name(point_id(image_id)))
            return Image.open(io.BytesIO(data)).convert("RGB")
        except OSError:  # Pillow's are such errors too
            return None

    def _report(self, sampled: Collected, found: Sequence[_Embedded]) -> ComparisonReport:
        request, there = self.request, np.logical_and.reduce([each.there for each in found])
        names, treatment = self.reader.names, request.near_duplicates
        sampled, check = sampled.part(there), lambda: self.tick(1)
        judge = Judge.of(sampled, names, treatment, request.seed, check)
        values = [judge.values(each.vectors[there][judge.kept]) for each in found]
        rankings = judge.rankings({e.model.name: v for e, v in zip(found, values, strict=True)})
        first = found[0].model.name
        pairs = []
        for each, other in zip(found[1:], values[1:], strict=True):
            overall, macro = judge.differences(values[0], other)
            name = each.model.name
            pairs.append(ComparedPair(first=first, other=name, overall=overall, macro=macro))
        missing = {"no preview": int((~there).sum())} if not there.all() else {}
        return ComparisonReport(
            id=self.id,
            created_at=datetime.now(UTC),
            request=request.model_copy(update={"filter": None}),
            images=len(judge.images),
            groups=len(np.unique(judge.images.groups)),
            left_out=missing | judge.left_out,
            models=tuple(
                each.model.model_copy(update={"ranking": ranking})
                for each, ranking in zip(found, rankings, strict=True)
            ),
            pairs=tuple(pairs),
            seconds=self.seconds,
            notes=_NOTES,
        )

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - start, 3)


def _model(choice: ModelChoice, encoder: Encoder, speed: float | None) -> ComparedModel:
    nothing = Ranking(name=choice.spelled, overall={}, macro={})
    return ComparedModel(
        name=choice.spelled,
        encoder=encoder.info,
        untrained=encoder.untrained,
        weights_bytes=encoder.weights_bytes,
        images_per_second=None if speed is None else round(speed, 2),
        ranking=nothing,
    )


def _vectors(encoder: Encoder, pictures: Sequence[Image.Image]) -> Floats:
    pixels = [encoder.preprocess(Picture(picture)) for picture in pictures]
    return encoder.embed(encoder.stack(pixels), bulk=True)


def _embedded(
    embed: Callable[[Sequence[Image.Image]], Floats],
    pictures: Callable[[int], Image.Image | None],
    count: int,
    batch: int,
    tick: Callable[[int], None],
) -> tuple[Floats, NDArray[np.bool_], float]:
    """The vectors (count, d) of pictures 0 to count - 1, which of them there are, and the seconds
    that `embed` took. `tick` gets how many are done, and may raise to end the work."""
    vectors, there, seconds = None, np.zeros(count, bool), 0.0
    for start in range(0, count, batch):
        tick(start)
        read = {n: pictures(n) for n in range(start, min(start + batch, count))}
        some = {n: picture for n, picture in read.items() if picture is not None}
        if not some:
            continue
        began = time.monotonic()
        found = embed(list(some.values()))
        seconds += time.monotonic() - began
        if vectors is None:
            vectors = np.zeros((count, found.shape[1]), np.float32)
        vectors[list(some)] = found
        there[list(some)] = True
    if vectors is None:
        raise InvalidQuery("None of the images has a stored preview.", ("sample",))
    return vectors, there, seconds
