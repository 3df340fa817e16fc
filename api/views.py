"""What the api answers with."""

from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, Field

from pipeline.ledger import JobRecord, JobState
from pipeline.messages import (
    DatasetSource,
    EncoderInfo,
    FacetValue,
    HeldImage,
    Hit,
    Payload,
    Problem,
    Rejection,
)


class JobView(BaseModel):
    """A job that succeeded has total = embedded + unchanged + rejected."""

    id: str
    state: JobState
    dataset: str | None
    split: str | None
    total: int | None
    embedded: int
    unchanged: int
    rejected: int
    images_per_second: float | None
    eta_seconds: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: Problem | None
    notice: str | None

    @classmethod
    def of(cls, job: JobRecord) -> "JobView":
        source = job.source
        named = source if isinstance(source, DatasetSource) else None
        return cls(
            id=job.id,
            state=job.state,
            dataset=named and named.dataset,
            split=named and named.split,
            total=job.total,
            embedded=job.embedded,
            unchanged=job.unchanged,
            rejected=job.rejected,
            images_per_second=_rounded(job.images_per_second),
            eta_seconds=_rounded(job.eta_seconds),
            created_at=_time(job.created_at),
            started_at=None if job.started_at is None else _time(job.started_at),
            finished_at=None if job.finished_at is None else _time(job.finished_at),
            error=job.error,
            notice=job.notice,
        )


class JobsView(BaseModel):
    jobs: list[JobView]


class RejectionsView(BaseModel):
    rejections: list[Rejection]
    cursor: int | None


class HitView(BaseModel):
    image_id: str
    point_id: str
    score: float
    payload: Payload
    preview_url: str

    @classmethod
    def of(cls, hit: Hit) -> "HitView":
        return cls(**dict(hit), preview_url=preview_url(hit.image_id))


class SearchView(BaseModel):
    """`results` is there when the search has succeeded: a list, or for a batch a list of lists."""

    id: str
    state: Literal["queued", "running", "succeeded", "failed"]
    results: list[HitView] | list[list[HitView]] | None = None
    error: Problem | None = None


class ImageView(BaseModel):
    image_id: str
    point_id: str
    payload: Payload
    vector: tuple[float, ...] | None = Field(None, exclude_if=lambda vector: vector is None)
    preview_url: str

    @classmethod
    def of(cls, image: HeldImage) -> "ImageView":
        return cls(**dict(image), preview_url=preview_url(image.image_id))


class ImagesView(BaseModel):
    images: list[ImageView]
    cursor: str | None


class CollectionView(BaseModel):
    count: int
    encoder: EncoderInfo
    facets: dict[str, list[FacetValue]]


def preview_url(image_id: str) -> str:
    return f"/v1/images/{quote(image_id, safe='')}/preview"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _rounded(value: float | None) -> Any:
    return None if value is None else round(value, 2)
