"""What a search starts from, as a vector or as examples: pictures, held images, words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.blobs import Blobs, preview_name
from pipeline.encoder import Encoder
from pipeline.errors import InvalidQuery, NotHeld
from pipeline.identity import point_id
from pipeline.images import Picture, Unusable, cut, decode
from pipeline.messages import SearchQuery
from pipeline.metadata import RESERVED
from pipeline.settings import Settings
from pipeline.store import Examples, Record, Store, Vectors
from pipeline.watch import Watch


@dataclass(frozen=True)
class Origin:
    """`likes` are the held images that the results shall be like; `picture` is what was embedded,
    where it was one."""

    target: Vectors | Examples
    likes: tuple[Record, ...] = ()
    picture: Picture | None = None


@dataclass(frozen=True)
class Origins:
    """Raises InvalidQuery, NotHeld or StoreUnavailable."""

    encoder: Encoder
    store: Store
    blobs: Blobs
    settings: Settings
    watch: Watch = field(default_factory=Watch)

    def of(
        self, searches: Sequence[SearchQuery], pictures: Sequence[Sequence[str]]
    ) -> list[Origin]:
        """One for each search; `pictures` are the blobs that were sent with each."""
        held = self._retrieve(searches)
        return [self._origin(*each, held) for each in zip(searches, pictures, strict=True)]

    def _retrieve(self, searches: Sequence[SearchQuery]) -> dict[str, Record]:
        """The held images that are named, by image id. Raises NotHeld for one that is not held."""
        wanted = {image_id: point_id(image_id) for s in searches for image_id in s.named}
        held = self.store.retrieve(list(wanted.values()), vectors=True) if wanted else {}
        for image_id, point in wanted.items():
            if point not in held:
                raise NotHeld(f"No image {image_id} is held.")
        return {image_id: held[point] for image_id, point in wanted.items()}

    def _origin(
        self, search: SearchQuery, pictures: Sequence[str], held: Mapping[str, Record]
    ) -> Origin:
        if search.text is not None:
            return Origin(self.encoder.embed_text([search.text])[0])
        if search.vector is not None:
            return Origin(self._given_vector(search.vector))
        if search.image_id is not None:
            return self._from_held(search, held[search.image_id])
        sent = [self._cropped(self._decode(blob, "image"), search) for blob in pictures]
        likes = tuple(held[image_id] for image_id in search.positive)
        picture = sent[0] if len(sent) == 1 and not likes else None
        return Origin(self._examples(sent, search, held), likes, picture)

    def _from_held(self, search: SearchQuery, record: Record) -> Origin:
        if search.crop is None:
            return Origin(_vector(record), (record,))
        picture = self._cropped(self._picture_of(record), search)
        return Origin(self._embed([picture])[0], (record,), picture)

    def _picture_of(self, record: Record) -> Picture:
        """The upload itself where there is one, else the preview: a data set's rows may be gone."""
        blob = record.payload.get(RESERVED, {}).get("blob")
        if blob is not None and self.blobs.exists(blob):
            return self._decode(blob, "image_id")
        try:
            return self._decode(preview_name(record.id), "image_id")
        except FileNotFoundError:
            raise InvalidQuery("Of this image no picture is kept.", ("crop",)) from None

    def _decode(self, blob: str, place: str) -> Picture:
        data = self.blobs.read(blob)
        with self.watch.decoding():
            picture = decode(data, self.settings.max_pixels)
        if isinstance(picture, Unusable):
            raise InvalidQuery(picture.reason, (place,))
        return picture

    def _cropped(self, picture: Picture, search: SearchQuery) -> Picture:
        if search.crop is None:
            return picture
        part = cut(picture, **search.crop.model_dump())
        if isinstance(part, Unusable):
            raise InvalidQuery(part.reason, ("crop",))
        return part

    def _embed(self, pictures: Sequence[Picture]) -> Vectors:
        """float32 (n, dimensions), of length 1 each."""
        if not pictures:
            return np.empty((0, self.encoder.info.dimensions), np.float32)
        pixels = np.stack([self.encoder.preprocess(picture) for picture in pictures])
        vectors = self.encoder.embed(pixels, bulk=False)
        if not np.isfinite(vectors).all():  # the encoder's fault: no InvalidQuery
            raise FloatingPointError("a vector holds NaN or infinity")
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def _examples(
        self, sent: Sequence[Picture], search: SearchQuery, held: Mapping[str, Record]
    ) -> Vectors | Examples:
        """As Qdrant's recommend combines them. All vectors have length 1."""
        positive = [*self._embed(sent), *(_vector(held[i]) for i in search.positive)]
        negative = [_vector(held[i]) for i in search.negative]
        likes = np.stack(positive)
        unlikes = np.stack(negative) if negative else np.empty((0, likes.shape[1]), np.float32)
        if search.strategy == "best_score":
            return Examples(likes, unlikes)
        mean: Vectors = likes.mean(axis=0)
        if negative:
            mean = 2 * mean - unlikes.mean(axis=0)
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


def _vector(record: Record) -> Vectors:
    assert record.vector is not None  # noqa: S101 - retrieved with vectors
    return record.vector
