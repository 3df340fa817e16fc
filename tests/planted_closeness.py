"""What an evaluation would have kept, with curves that a test knows."""

from datetime import UTC, datetime

from pipeline.base.blobs import Blobs
from pipeline.evaluation.closeness import Kept, keep
from pipeline.messages import EncoderInfo
from pipeline.messages.evaluations import Calibrated, CalibrationPoint
from tests.system import System, until


def flat(label: str | None, share: float, low: float, high: float) -> Calibrated:
    """The same share at any score."""
    point = CalibrationPoint(score=0.5, share=share, low=low, high=high, neighbours=310)
    return Calibrated(label=label, points=(point,))


def plant(system: System, *curves: Calibrated, least_score: float = -1.0, images: int = 0) -> None:
    """Returns when searches know it. `images` is the collection's count, unless it says another."""
    found = system.http.get("/v1/collection").raise_for_status().json()
    time = datetime.now(UTC)
    kept = Kept(
        evaluation="planted",
        created_at=time,
        encoder=EncoderInfo.model_validate(found["encoder"]),
        label="dx",
        group="lesion_id",
        images=images or found["count"],
        least_score=least_score,
        curves=curves,
    )
    keep(Blobs(str(system.blobs)), kept)

    def known() -> bool:
        said = system.http.get("/v1/collection").json().get("closeness") or {}
        return said.get("created_at", "")[:26] == time.isoformat()[:26]

    until(known, "the calibration")
