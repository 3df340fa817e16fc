"""A collection in memory, as an evaluation reads it, with made vectors, lesions and hashes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from pipeline.base.identity import point_id
from pipeline.evaluation.collected import Reader
from pipeline.evaluation.evaluation import Evaluation
from pipeline.messages import EncoderInfo
from pipeline.messages.evaluations import EvaluationReport, EvaluationRequest
from pipeline.store import Record
from tests.encoders import ENCODER

LABELS = ("nevus", "melanoma", "keratosis")


@dataclass
class Held:
    """Stands for a store. `payloads` and `vectors` (n, d) run side by side."""

    payloads: list[dict[str, Any]]
    vectors: NDArray[np.float32]
    previews: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.vectors /= np.linalg.norm(self.vectors, axis=1, keepdims=True)
        ids = [point_id(payload["image_id"]) for payload in self.payloads]
        self._order = sorted(range(len(ids)), key=lambda place: ids[place])
        self._ids = [ids[place] for place in self._order]

    def scroll(
        self, limit: int, *, cursor: UUID | None = None, **_: Any
    ) -> tuple[list[Record], UUID | None]:
        start = 0 if cursor is None else sum(each < cursor for each in self._ids)
        stop = min(start + limit, len(self._ids))
        page = [
            Record(self._ids[n], self.payloads[self._order[n]], self.vectors[self._order[n]])
            for n in range(start, stop)
        ]
        return page, self._ids[stop] if stop < len(self._ids) else None

    def count(self, _: Any = None) -> int:
        return len(self._ids)

    def facet(self, field: str, limit: int = 100) -> list[tuple[str, int]]:
        counted = Counter(p[field] for p in self.payloads if field in p)
        return counted.most_common(limit)

    @property
    def encoder(self) -> EncoderInfo:
        return ENCODER

    def preview(self, image_id: str) -> bytes:
        if image_id not in self.previews:
            raise FileNotFoundError
        return self.previews[image_id]


def collection(count: int = 400, lesions: int = 250, seed: int = 0, width: int = 12) -> Held:
    """Images of some lesions, each lesion with a label and all of a label around one centre."""
    random = np.random.default_rng(seed)
    lesion = random.integers(0, lesions, count)
    label_of = random.choice(len(LABELS), lesions, p=(0.6, 0.3, 0.1))
    centres = random.normal(0, 1, (len(LABELS), width))
    places = centres[label_of] + random.normal(0, 1.5, (lesions, width))
    vectors = places[lesion] + random.normal(0, 0.5, (count, width))
    payloads = [
        {
            "image_id": f"I{n}",
            "dx": LABELS[label_of[lesion[n]]],
            "lesion_id": f"L{lesion[n]}",
            "source": {"phash": random.bytes(32).hex(), "sha256": random.bytes(32).hex()},
        }
        for n in range(count)
    ]
    return Held(payloads, vectors.astype(np.float32))


def evaluated(
    held: Held,
    *,
    searched: int | None = None,
    patient: str | None = None,
    ticks: list[float] | None = None,
    **wanted: Any,
) -> EvaluationReport:
    request = EvaluationRequest(
        **{"label": "dx", "group": "lesion_id", "baseline": False, **wanted}
    )
    group = None if request.group == "none" else request.group
    store: Any = held
    return Evaluation(
        id="0" * 36,
        request=request,
        encoder=ENCODER,
        reader=Reader(store, request.label, group, request.filter, {}, patient),
        preview=held.preview,
        searched=searched or len(held.payloads),
        count=len(held.payloads),
        tick=(ticks if ticks is not None else []).append,
    ).run()


def values(payloads: Sequence[dict[str, Any]], field: str) -> NDArray[Any]:
    return np.array([payload.get(field) for payload in payloads])
