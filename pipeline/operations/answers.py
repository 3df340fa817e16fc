"""What is asked of the store or the model, answered: searches, pages, facets, deletions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from pipeline.base.blobs import Blobs
from pipeline.base.errors import InvalidQuery, NotFound
from pipeline.base.identity import is_identifier, point_id
from pipeline.base.settings import Settings
from pipeline.encoding.encoder import Encoder
from pipeline.images.watchdog import DecodeWatch
from pipeline.lifecycle.deletion import Deletions
from pipeline.messages import (
    Ask,
    BatchAnswer,
    BatchAsk,
    CollectionAnswer,
    CollectionAsk,
    DeleteAsk,
    Facets,
    FacetsAnswer,
    FacetsAsk,
    FacetValue,
    ImageAsk,
    ImagesAnswer,
    ImagesAsk,
    LiftAsk,
    Message,
    Receipt,
    ReceiptAsk,
    SearchAnswer,
    SearchAsk,
    StoredImage,
    ValueRange,
    preview_path,
)
from pipeline.messages.filters import Filter
from pipeline.retrieval.fields import Fields
from pipeline.retrieval.search import Search
from pipeline.retrieval.targets import QueryTargets
from pipeline.store import Record, Store
from pipeline.store.common import FACET_TYPES, NUMBER_TYPES

_ask: TypeAdapter[Ask] = TypeAdapter(Ask)


@dataclass(frozen=True)
class Answers:
    """Safe to call from several threads. Raises InvalidQuery, NotFound or StoreUnavailable."""

    encoder: Encoder
    store: Store
    blobs: Blobs
    settings: Settings
    fields: Fields
    deletions: Deletions
    watch: DecodeWatch = field(default_factory=DecodeWatch)

    @cached_property
    def _search(self) -> Search:
        targets = QueryTargets(self.encoder, self.store, self.blobs, self.settings, self.watch)
        return Search(self.store, targets, self.fields)

    def answer(self, ask: bytes) -> bytes:
        """From an ask's JSON to its answer's."""
        question = _ask.validate_json(ask)
        answers: dict[str, Callable[[Any], Message]] = {
            "search": self.search,
            "batch": self.batch,
            "images": self.images,
            "image": self.image,
            "delete": self.delete,
            "lift": self.lift,
            "receipt": self.receipt,
            "collection": self.collection,
            "facets": self.facets,
        }
        return answers[question.kind](question).model_dump_json().encode()

    def search(self, ask: SearchAsk) -> SearchAnswer:
        return SearchAnswer(results=self._search.run([ask.query], [ask.images])[0])

    def batch(self, ask: BatchAsk) -> BatchAnswer:
        """Different searches in one call to the store, answered in their order."""
        found = self._search.run(ask.searches, [()] * len(ask.searches))
        return BatchAnswer(results=tuple(found))

    def images(self, ask: ImagesAsk) -> ImagesAnswer:
        self.fields.check_filter(ask.filter)
        cursor = None if ask.cursor is None else _cursor(ask.cursor)
        records, following = self.store.scroll(
            ask.limit, filter=ask.filter, cursor=cursor, vectors=ask.vectors
        )
        images = tuple(_held(record) for record in records)
        return ImagesAnswer(images=images, cursor=None if following is None else str(following))

    def image(self, ask: ImageAsk) -> StoredImage:
        return _held(self._record(ask.image_id))

    def delete(self, ask: DeleteAsk) -> Receipt:
        if ask.held and not self.deletions.begun(ask.id):
            for image_id in ask.wanted.image_ids or ():
                self._record(image_id)
        return self.deletions.delete(ask.id, ask.wanted)

    def lift(self, ask: LiftAsk) -> Receipt:
        return self.deletions.lift(ask.id)

    def receipt(self, ask: ReceiptAsk) -> Receipt:
        return self.deletions.receipt(ask.id)

    def collection(self, ask: CollectionAsk) -> CollectionAnswer:
        return CollectionAnswer(
            count=self.store.count(),
            encoder=self.encoder.info,
            searches_text=self.encoder.reads_text,
            group_fields=self.fields.grouping,
            facets=self._facets(None),
        )

    def facets(self, ask: FacetsAsk) -> FacetsAnswer:
        self.fields.check_filter(ask.filter)
        bounds = {
            name: self.store.bounds(name, ask.filter) for name in self.fields.of_type(NUMBER_TYPES)
        }
        return FacetsAnswer(
            count=self.store.count(ask.filter),
            facets=self._facets(ask.filter),
            ranges={n: ValueRange(min=b[0], max=b[1]) for n, b in bounds.items() if b is not None},
        )

    def _facets(self, among: Filter | None) -> Facets:
        names = [n for n in self.fields.of_type(FACET_TYPES) if not is_identifier(n)]
        return {
            name: tuple(
                FacetValue(value=value, count=count)
                for value, count in self.store.facet(name, filter=among)
            )
            for name in names
        }

    def _record(self, image_id: str) -> Record:
        record = self.store.retrieve([point_id(image_id)]).get(point_id(image_id))
        if record is None:
            raise NotFound(f"No image {image_id} is held.")
        return record


def _cursor(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidQuery("This is no cursor of ours.", ("cursor",)) from error


def _held(record: Record) -> StoredImage:
    image_id = record.payload["image_id"]
    return StoredImage.model_construct(
        image_id=image_id,
        point_id=str(record.id),
        payload=record.payload,
        preview_url=preview_path(image_id),
        vector=None if record.vector is None else tuple(record.vector.tolist()),
    )
