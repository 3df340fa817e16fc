"""Query targets: turns pictures, indexed images or words into a vector or examples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.errors import InvalidQuery, NotFound
from pipeline.base.identity import point_id, sha256
from pipeline.base.sealing import unseal
from pipeline.dicom.pseudonyms import Pseudonyms, no_image, no_pseudonyms
from pipeline.encoding.encoder import Encoder
from pipeline.images.decoders import Decoders
from pipeline.images.decoding import TOO_SMALL, Unusable
from pipeline.images.preparing import Order, Prepared
from pipeline.messages import RESERVED, SearchQuery
from pipeline.store import Examples, Record, Store, Vectors

# What is wrong with one search alone.
Refusal = InvalidQuery | NotFound


@dataclass(frozen=True)
class SentPicture:
    """A picture from outside: the SHA-256 of its file, and the vector of all of it."""

    sha256: str
    vector: Vectors


@dataclass(frozen=True)
class QueryTarget:
    """`positives` are the indexed images that results should resemble.

    `phash` is of the picture that was embedded, if there was exactly one. `sent` is filled only if
    the search leaves out its own lesion.
    """

    target: Vectors | Examples
    positives: tuple[Record, ...] = ()
    phash: str | None = None
    sent: tuple[SentPicture, ...] = ()


@dataclass(frozen=True)
class QueryTargets:
    """Raises StoreUnavailable or DecodersUnavailable."""

    encoder: Encoder
    store: Store
    blobs: Blobs
    decoders: Decoders
    pseudonyms: Callable[[], Pseudonyms] = no_pseudonyms

    def of(
        self, searches: Sequence[SearchQuery], pictures: Sequence[Sequence[str]]
    ) -> list[QueryTarget | Refusal]:
        """A target for each search, or why it has none.

        `pictures` has the blobs that were sent with each.
        """
        indexed = self._retrieve(searches)
        return [self._target_of(*each, indexed) for each in zip(searches, pictures, strict=True)]

    def _retrieve(self, searches: Sequence[SearchQuery]) -> dict[str, Record]:
        """The indexed ones of the images that the searches name, by image id."""
        wanted = {image_id: point_id(image_id) for s in searches for image_id in s.named}
        found = self.store.retrieve(list(wanted.values()), vectors=True) if wanted else {}
        return {image_id: found[point] for image_id, point in wanted.items() if point in found}

    def _target_of(
        self, search: SearchQuery, pictures: Sequence[str], indexed: Mapping[str, Record]
    ) -> QueryTarget | Refusal:
        for image_id in search.named:
            if image_id not in indexed:
                return no_image(image_id)
        try:
            return self._possible_target(search, pictures, indexed)
        except InvalidQuery as error:
            return error

    def _possible_target(
        self, search: SearchQuery, pictures: Sequence[str], indexed: Mapping[str, Record]
    ) -> QueryTarget:
        """Raises InvalidQuery."""
        if search.text is not None:
            return QueryTarget(self.encoder.embed_text([search.text])[0])
        if search.vector is not None:
            return QueryTarget(self._given_vector(search.vector))
        if search.image_id is not None:
            return self._from_indexed(search, indexed[search.image_id])
        return self._from_examples(search, [self._sent_file(blob) for blob in pictures], indexed)

    def _sent_file(self, blob: str) -> bytes:
        """A DICOM file is sealed while its search is known."""
        return unseal(self.blobs.read(blob), self.pseudonyms().keys)

    def _from_examples(
        self, search: SearchQuery, files: Sequence[bytes], indexed: Mapping[str, Record]
    ) -> QueryTarget:
        sent = self._decode(files, search, "image")
        vectors = self._embed(sent)
        positives = tuple(indexed[image_id] for image_id in search.positive)
        return QueryTarget(
            self._examples(vectors, search, indexed),
            positives,
            sent[0].phash if len(sent) == 1 and not positives else None,
            self._sent(files, vectors, search) if search.exclude_same_lesion else (),
        )

    def _sent(
        self, files: Sequence[bytes], vectors: Vectors, search: SearchQuery
    ) -> tuple[SentPicture, ...]:
        """`vectors` are those that the search compares with: of a part, if it has a crop."""
        if search.crop is not None:
            whole = search.model_copy(update={"crop": None})
            vectors = self._embed(self._decode(files, whole, "image"))
        hashes = [sha256(data) for data in files]
        return tuple(SentPicture(*each) for each in zip(hashes, vectors, strict=True))

    def _from_indexed(self, search: SearchQuery, record: Record) -> QueryTarget:
        if search.crop is None:
            return QueryTarget(_vector(record), (record,))
        [picture] = self._decode([self._file_of(record)], search, "image_id")
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

    def _decode(self, files: Sequence[bytes], search: SearchQuery, path: str) -> list[Prepared]:
        """What the search looks at of each file. Raises InvalidQuery, at `path` for a bad file."""
        if not files:
            return []
        crop = search.crop
        part = (crop.left, crop.top, crop.width, crop.height) if crop is not None else None
        order = Order(self.encoder.steps, crop=part)
        decoding = [self.decoders.submit(data, order, urgent=True) for data in files]
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


def _usable(made: Prepared | Unusable, path: str) -> Prepared:
    if isinstance(made, Unusable):
        raise InvalidQuery(made.reason, ("crop",) if made == TOO_SMALL else (path,))
    return made


def _vector(record: Record) -> Vectors:
    assert record.vector is not None  # noqa: S101 - retrieved with vectors
    return record.vector
