"""What is asked of the store or the model, answered: searches, pages, facets, deletions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from pydantic import TypeAdapter

from pipeline.blobs import Blobs, preview_name
from pipeline.encoder import Encoder
from pipeline.errors import InvalidQuery, NotHeld
from pipeline.filters import Filter, HasIdCondition
from pipeline.identity import point_id
from pipeline.images import Unusable, decode
from pipeline.messages import (
    Ask,
    BatchAnswer,
    BatchAsk,
    CollectionAnswer,
    CollectionAsk,
    DeleteAnswer,
    DeleteAsk,
    FacetValue,
    HeldImage,
    Hit,
    ImageAsk,
    ImagesAnswer,
    ImagesAsk,
    Message,
    SearchAnswer,
    SearchAsk,
    SearchQuery,
)
from pipeline.settings import Settings
from pipeline.sources import RESERVED
from pipeline.store import Query, Record, ScoredPoint, Store, Vectors

_ask: TypeAdapter[Ask] = TypeAdapter(Ask)

# Types of payload indexes whose values can be counted.
FACETED = ("keyword", "integer", "bool")


@dataclass(frozen=True)
class Answers:
    """Safe to call from several threads. Raises InvalidQuery, NotHeld or StoreUnavailable."""

    encoder: Encoder
    store: Store
    blobs: Blobs
    settings: Settings

    def answer(self, ask: bytes) -> bytes:
        """From an ask's JSON to its answer's."""
        question = _ask.validate_json(ask)
        answers: dict[str, Callable[[Any], Message]] = {
            "search": self.search,
            "batch": self.batch,
            "images": self.images,
            "image": self.image,
            "delete": self.delete,
            "collection": self.collection,
        }
        return answers[question.kind](question).model_dump_json().encode()

    def search(self, ask: SearchAsk) -> SearchAnswer:
        """The nearest by cosine to an image sent along, or to the query's own target."""
        if ask.image is not None:
            vector = self._embed_upload(ask.image)
        else:
            vector = self._targets([ask.query])[0]
        return SearchAnswer(results=self._nearest([ask.query], [vector])[0])

    def batch(self, ask: BatchAsk) -> BatchAnswer:
        """Different searches in one call to the store, answered in their order."""
        return BatchAnswer(results=tuple(self._nearest(ask.searches, self._targets(ask.searches))))

    def images(self, ask: ImagesAsk) -> ImagesAnswer:
        cursor = None if ask.cursor is None else _cursor(ask.cursor)
        records, following = self.store.scroll(
            ask.limit, filter=ask.filter, cursor=cursor, vectors=ask.vectors
        )
        images = tuple(_held(record) for record in records)
        return ImagesAnswer(images=images, cursor=None if following is None else str(following))

    def image(self, ask: ImageAsk) -> ImagesAnswer:
        return ImagesAnswer(images=(_held(self._record(ask.image_id)),))

    def delete(self, ask: DeleteAsk) -> DeleteAnswer:
        """From the store first: a preview without its point is litter, the reverse is a hole."""
        record = self._record(ask.image_id)
        self.store.delete([record.id])
        self.store.flush()
        self.blobs.delete(preview_name(record.id))
        upload = record.payload.get(RESERVED, {}).get("blob")
        if upload is not None:
            self.blobs.delete(upload)
        return DeleteAnswer(image_id=ask.image_id, deleted=True)

    def collection(self, ask: CollectionAsk) -> CollectionAnswer:
        faceted = [name for name, kind in self.settings.index_schema.items() if kind in FACETED]
        facets = {
            name: tuple(FacetValue(value=v, count=n) for v, n in self.store.facet(name))
            for name in faceted
            if name not in ("image_id", "lesion_id")  # ids: as many values as images
        }
        return CollectionAnswer(count=self.store.count(), encoder=self.encoder.info, facets=facets)

    def _nearest(
        self, searches: Sequence[SearchQuery], vectors: Sequence[Vectors]
    ) -> list[tuple[Hit, ...]]:
        queries = [_query(s, v) for s, v in zip(searches, vectors, strict=True)]
        found = self.store.query(queries)
        return [
            tuple(_hit(point, search) for point in points)
            for points, search in zip(found, searches, strict=True)
        ]

    def _embed_upload(self, blob: str) -> Vectors:
        picture = decode(self.blobs.read(blob), self.settings.max_pixels)
        if isinstance(picture, Unusable):
            raise InvalidQuery(picture.reason, ("image",))
        vectors = self.encoder.embed(self.encoder.preprocess(picture)[None], bulk=False)
        vector: Vectors = vectors[0]
        return vector

    def _targets(self, searches: Sequence[SearchQuery]) -> list[Vectors]:
        """The vectors that the searches start from; those of held images in one retrieval."""
        wanted = {s.image_id: point_id(s.image_id) for s in searches if s.image_id is not None}
        held = self.store.retrieve(list(wanted.values()), vectors=True) if wanted else {}
        return [self._target(search, wanted, held) for search in searches]

    def _target(
        self, search: SearchQuery, wanted: dict[str, UUID], held: dict[UUID, Record]
    ) -> Vectors:
        if search.image_id is not None:
            record = held.get(wanted[search.image_id])
            if record is None or record.vector is None:
                raise _not_held(search.image_id)
            return record.vector
        if search.vector is not None:
            return self._given_vector(search.vector)
        raise InvalidQuery(
            f"The encoder {self.encoder.info.model} reads images only; it cannot search by text.",
            ("text",),
        )

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

    def _record(self, image_id: str) -> Record:
        record = self.store.retrieve([point_id(image_id)]).get(point_id(image_id))
        if record is None:
            raise _not_held(image_id)
        return record


def _not_held(image_id: str) -> NotHeld:
    return NotHeld(f"No image {image_id} is held.")


def _cursor(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidQuery("This is no cursor of ours.", ("cursor",)) from error


def _query(search: SearchQuery, vector: Vectors) -> Query:
    """image_id is always fetched, since a hit is named by it; `_hit` takes it out again."""
    include = None if search.include is None else [*search.include, "image_id"]
    exclude = None if search.exclude is None else [f for f in search.exclude if f != "image_id"]
    return Query(
        vector=vector,
        limit=search.limit,
        filter=_filter(search),
        offset=search.offset,
        score_threshold=search.score_threshold,
        include=include,
        exclude=exclude or None,
    )


def _filter(search: SearchQuery) -> Filter | None:
    """The filter with the shorthands for image ids worked in."""
    must: list[Any] = [] if search.filter is None else [search.filter]
    if search.ids is not None:
        must.append(_has_ids(search.ids))
    must_not = [_has_ids(search.not_ids)] if search.not_ids else []
    if not must and not must_not:
        return None
    return Filter(must=tuple(must) or None, must_not=tuple(must_not) or None)


def _has_ids(image_ids: Sequence[str]) -> HasIdCondition:
    return HasIdCondition(has_id=tuple(str(point_id(i)) for i in image_ids))


def _hit(point: ScoredPoint, search: SearchQuery) -> Hit:
    payload = dict(point.payload)
    image_id = payload["image_id"]
    if search.include is not None and "image_id" not in search.include:
        del payload["image_id"]
    if search.exclude is not None and "image_id" in search.exclude:
        del payload["image_id"]
    return Hit(image_id=image_id, point_id=str(point.id), score=point.score, payload=payload)


def _held(record: Record) -> HeldImage:
    return HeldImage(
        image_id=record.payload["image_id"],
        point_id=str(record.id),
        payload=record.payload,
        vector=None if record.vector is None else tuple(record.vector.tolist()),
    )
