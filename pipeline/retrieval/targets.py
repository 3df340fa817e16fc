"""Query targets: turns pictures, indexed images or words into a vector or examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import numpy as np

from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.errors import InvalidQuery, NotFound, QueryGone
from pipeline.base.identity import frame_digest, point_id, sha256
from pipeline.dicom.frames import evenly
from pipeline.dicom.pseudonyms import no_image
from pipeline.encoding.encoder import Encoder
from pipeline.images.decoders import Decoders
from pipeline.images.decoding import TOO_SMALL, Unusable
from pipeline.images.preparing import Order, Prepared
from pipeline.messages import RESERVED, SERIES, SearchQuery, SentFile
from pipeline.messages.filters import Filter
from pipeline.messages.sent import MOST_FRAMES
from pipeline.retrieval.conditions import equals
from pipeline.store import Examples, Record, Store, Vectors

# What is wrong with one search alone.
Refusal = InvalidQuery | NotFound

# What was sent with a search: the blob of a picture, or a file of DICOM.
Sent = str | SentFile

# Images of a series among which those are chosen that a search compares: no series is as long.
_MOST_COLLECTED = 5_000


@dataclass(frozen=True)
class SentPicture:
    """A picture from outside: the SHA-256 of its file, and the vector of all of it.

    Of DICOM, `points` are as of `SentFile`, and `series` has the keys of its series.
    """

    sha256: str
    vector: Vectors
    points: tuple[UUID, ...] = ()
    series: tuple[str, ...] = ()


@dataclass(frozen=True)
class QueryTarget:
    """`positives` are the indexed images that results should resemble.

    `phash` is of the picture that was embedded, if there was exactly one. `sent` is filled only if
    the search leaves out its own lesion. `frames`, float32 (n, dimensions), are compared each on
    its own by the strategy best_match. `known` are fields of files sent along.
    """

    target: Vectors | Examples
    positives: tuple[Record, ...] = ()
    phash: str | None = None
    sent: tuple[SentPicture, ...] = ()
    frames: Vectors | None = None
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class QueryTargets:
    """Raises StoreUnavailable or DecodersUnavailable."""

    encoder: Encoder
    store: Store
    blobs: Blobs
    decoders: Decoders

    def of(
        self,
        searches: Sequence[SearchQuery],
        pictures: Sequence[Sequence[Sent]],
    ) -> list[QueryTarget | Refusal]:
        """A target for each search, or why it has none.

        `pictures` has what was sent with each.
        """
        indexed = self._retrieve(searches)
        return [self._target_of(*each, indexed) for each in zip(searches, pictures, strict=True)]

    def _retrieve(self, searches: Sequence[SearchQuery]) -> dict[str, Record]:
        """The indexed ones of the images that the searches name, by image id."""
        wanted = {image_id: point_id(image_id) for s in searches for image_id in s.named}
        found = self.store.retrieve(list(wanted.values()), vectors=True) if wanted else {}
        return {image_id: found[point] for image_id, point in wanted.items() if point in found}

    def _target_of(
        self, search: SearchQuery, pictures: Sequence[Sent], indexed: Mapping[str, Record]
    ) -> QueryTarget | Refusal:
        for image_id in search.named:
            if image_id not in indexed:
                return no_image(image_id)
        try:
            return self._possible_target(search, pictures, indexed)
        except (InvalidQuery, NotFound) as error:
            return error

    def _possible_target(
        self, search: SearchQuery, pictures: Sequence[Sent], indexed: Mapping[str, Record]
    ) -> QueryTarget:
        """Raises InvalidQuery or NotFound."""
        if search.collected is not None:
            return self._from_collected(*search.collected)
        if search.text is not None and search.text_weight is not None:
            return self._mixed(search, pictures, indexed)
        if search.text is not None:
            return QueryTarget(self.encoder.embed_text([search.text])[0])
        if search.vector is not None:
            return QueryTarget(self._given_vector(search.vector))
        if search.image_id is not None:
            return self._from_indexed(search, indexed[search.image_id])
        return self._from_examples(search, pictures, indexed)

    def _mixed(
        self, search: SearchQuery, pictures: Sequence[Sent], indexed: Mapping[str, Record]
    ) -> QueryTarget:
        """An image, or examples, and words: (1 - w) of its unit vector and w of the words'."""
        assert search.text is not None and search.text_weight is not None  # noqa: S101
        words = _unit(self.encoder.embed_text([search.text])[0])
        alone = search.model_copy(update={"text": None, "text_weight": None})
        target = self._possible_target(alone, pictures, indexed)
        assert not isinstance(target.target, Examples)  # noqa: S101 - see check_target
        mixed = (1 - search.text_weight) * _unit(target.target) + search.text_weight * words
        if np.linalg.norm(mixed) < 1e-6:
            raise InvalidQuery("The image and the text cancel each other out.", ("text_weight",))
        return replace(target, target=_unit(mixed))

    def _from_collected(self, name: str, values: Sequence[str]) -> QueryTarget:
        """All images with one of these values; if they are many, some of them, evenly."""
        having = Filter(should=tuple(equals(name, values)))
        found: list[Record] = []
        cursor: UUID | None = None
        while len(found) < _MOST_COLLECTED:
            page, cursor = self.store.scroll(1000, filter=having, cursor=cursor, vectors=True)
            found += page
            if cursor is None:
                break
        if not found:
            raise NotFound(f"No image with this {name.removesuffix('_id')} is indexed.")
        found.sort(key=_place)
        chosen = tuple(found[n] for n in evenly(len(found), MOST_FRAMES))
        vectors = np.stack([_vector(record) for record in chosen])
        return QueryTarget(vectors.mean(axis=0), chosen, frames=vectors)

    def _from_examples(
        self, search: SearchQuery, sent: Sequence[Sent], indexed: Mapping[str, Record]
    ) -> QueryTarget:
        files = [each if isinstance(each, SentFile) else None for each in sent]
        data = [self.file(each if isinstance(each, str) else each.blob) for each in sent]
        orders = [
            (file, each, frame)
            for file, each in zip(files, data, strict=True)
            for frame in (file.frames if file else (0,))
        ]
        frames = [(each, frame) for _, each, frame in orders]
        made = self._decode(frames, search, "image")
        vectors = self._embed(made)
        positives = tuple(indexed[image_id] for image_id in search.positive)
        alone = None
        if search.strategy == "best_match":
            alone = np.stack([*vectors, *map(_vector, positives)])
        return QueryTarget(
            self._examples(vectors, search, indexed) if alone is None else alone.mean(axis=0),
            positives,
            made[0].phash if len(made) == 1 and not positives else None,
            self._sent(orders, vectors, search) if search.exclude_same_lesion else (),
            alone,
            _joined([file for file in files if file is not None]),
        )

    def file(self, blob: str) -> bytes:
        """What was sent along. Raises QueryGone."""
        try:
            return self.blobs.read(blob)
        except FileNotFoundError:
            raise QueryGone("Another worker has answered this search.") from None

    def _sent(
        self,
        orders: Sequence[tuple[SentFile | None, bytes, int]],
        vectors: Vectors,
        search: SearchQuery,
    ) -> tuple[SentPicture, ...]:
        """`vectors` are those that the search compares with: of a part, if it has a crop."""
        if search.crop is not None:
            whole = search.model_copy(update={"crop": None})
            files = [(data, frame) for _, data, frame in orders]
            vectors = self._embed(self._decode(files, whole, "image"))
        return tuple(
            SentPicture(sha256(data), vector)
            if file is None
            else SentPicture(
                frame_digest(file.sha256, frame), vector, file.points, file.keys_of(SERIES)
            )
            for (file, data, frame), vector in zip(orders, vectors, strict=True)
        )

    def _from_indexed(self, search: SearchQuery, record: Record) -> QueryTarget:
        if search.crop is None:
            return QueryTarget(_vector(record), (record,))
        [picture] = self._decode([(self._file_of(record), 0)], search, "image_id")
        return QueryTarget(self._embed([picture])[0], (record,), picture.phash)

    def _file_of(self, record: Record) -> bytes:
        """The upload if there is one, else the preview: a data set may have been removed."""
        blob = record.payload.get(RESERVED, {}).get("blob")
        if blob is not None and self.blobs.exists(blob):
            return self.blobs.read(blob)
        try:
            return self.blobs.read(preview_name(record.id))
        except FileNotFoundError:
            raise InvalidQuery("No picture of this image is stored.", ("crop",)) from None

    def _decode(
        self, files: Sequence[tuple[bytes, int]], search: SearchQuery, path: str
    ) -> list[Prepared]:
        """What the search looks at of each frame, which is given with its file.

        Raises InvalidQuery, at `path` for a bad file.
        """
        if not files:
            return []
        crop = search.crop
        part = (crop.left, crop.top, crop.width, crop.height) if crop is not None else None
        steps = self.encoder.steps
        decoding = [
            self.decoders.submit(data, Order(steps, crop=part, frame=frame), urgent=True)
            for data, frame in files
        ]
        return [_usable(each.result(), path) for each in decoding]

    def _embed(self, pictures: Sequence[Prepared]) -> Vectors:
        """float32 (n, dimensions); each vector has length 1."""
        if not pictures:
            return np.empty((0, self.encoder.info.dimensions), np.float32)
        pixels = np.stack([picture.pixels for picture in pictures])
        vectors = self.encoder.embed(pixels, bulk=False)
        if not np.isfinite(vectors).all():  # the encoder's fault: no InvalidQuery
            raise FloatingPointError("a vector holds NaN or infinity")
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def _examples(
        self, sent: Vectors, search: SearchQuery, indexed: Mapping[str, Record]
    ) -> Vectors | Examples:
        """Combines examples as Qdrant's recommend does. All vectors have length 1."""
        positive = [*sent, *(_vector(indexed[i]) for i in search.positive)]
        negative = [_vector(indexed[i]) for i in search.negative]
        positives = np.stack(positive)
        negatives = (
            np.stack(negative) if negative else np.empty((0, positives.shape[1]), np.float32)
        )
        if search.strategy == "best_score":
            return Examples(positives, negatives)
        mean: Vectors = positives.mean(axis=0)
        if negative:
            mean = 2 * mean - negatives.mean(axis=0)
        if np.linalg.norm(mean) < 1e-6:
            raise InvalidQuery("These examples cancel each other out.", ("negative",))
        return mean

    def _given_vector(self, values: Sequence[float]) -> Vectors:
        vector = np.asarray(values, dtype=np.float32)
        dimensions = self.encoder.info.dimensions
        if vector.shape != (dimensions,):
            raise InvalidQuery(
                f"The vector has {vector.size} dimensions; the encoder's have {dimensions}.",
                ("vector",),
            )
        if not np.isfinite(vector).all() or not vector.any():
            raise InvalidQuery("The vector must be finite and not all zero.", ("vector",))
        return vector


def _unit(vector: Vectors) -> Vectors:
    """Of length 1."""
    unit: Vectors = vector / np.linalg.norm(vector)
    return unit


def _usable(made: Prepared | Unusable, path: str) -> Prepared:
    if isinstance(made, Unusable):
        raise InvalidQuery(made.reason, ("crop",) if made == TOO_SMALL else (path,))
    return made


def _vector(record: Record) -> Vectors:
    assert record.vector is not None  # noqa: S101 - retrieved with vectors
    return record.vector


def _joined(files: Sequence[SentFile]) -> dict[str, tuple[str, ...]]:
    """What is known of several files, by field."""
    names = {name for file in files for name, _ in file.known}
    return {name: tuple(key for file in files for key in file.keys_of(name)) for name in names}


def _place(record: Record) -> tuple[str, float, str]:
    """By which the images of a series are in order, as far as they say."""
    payload = record.payload
    numbers = [payload.get(name) for name in ("instance_number", "frame")]
    place = next((float(n) for n in numbers if isinstance(n, int | float)), 0.0)
    return str(payload.get("series_id", "")), place, str(payload.get("image_id", ""))
