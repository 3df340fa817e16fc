"""Examples of label audits and of drift, for the OpenAPI document."""

from datetime import UTC, datetime
from typing import Any

from api.routes.label_audits import FindingsView, FindingView, LabelAuditView
from pipeline.messages import preview_path
from pipeline.messages.drift import GroupDrift
from pipeline.messages.label_audits import AuditedImage, Decision, LabelAuditReport, Neighbour
from pipeline.operations.job import JobView

_IMAGE, _OTHER, _AUDIT = "ISIC_0025927", "ISIC_0027419", "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9"
_FINDING = "b0a4d2c86f5e41738a9c0d1e2f304152"
_TIME = datetime(2026, 1, 1, tzinfo=UTC)

REQUEST = {"label": "dx", "group": "lesion_id"}

PARAMETERS: dict[str, Any] = {
    "audit": _AUDIT,
    "finding": _FINDING,
    "kind": "unlike_neighbours",
    "decision": "open",
}

_FOUND = FindingView(
    id=_FINDING,
    kind="unlike_neighbours",
    place=0,
    rank=1,
    images=(AuditedImage(image_id=_IMAGE, label="nevus", group="HAM_0000118"),),
    evidence=0.81,
    suggested="melanoma",
    neighbours=(
        Neighbour(image_id=_OTHER, label="melanoma", group="HAM_0002730", similarity=0.94),
    ),
    preview_urls=(preview_path(_IMAGE, "/v1"), preview_path(_OTHER, "/v1")),
    decision=None,
)


def _decided(decision: Decision | None) -> Any:
    return _FOUND.model_copy(update={"decision": decision}).model_dump(mode="json")


def findings() -> Any:
    return FindingsView(findings=(_FOUND,), cursor=None).model_dump(mode="json")


CONFIRMED = _decided(Decision(verdict="confirmed", by="4f1c", at=_TIME))
DISMISSED = _decided(Decision(verdict="dismissed", by="4f1c", at=_TIME))
OPEN = _decided(None)

TABLE = "kind,rank,image_id,label\r\nunlike_neighbours,1,ISIC_0025927,nevus\r\n"

DRIFT = {
    "job": _AUDIT,
    "state": "known",
    "groups": [
        GroupDrift(
            values={"manufacturer": "Siemens", "model": "Artis"},
            sampled=200,
            reference=500,
            own=False,
            beyond=143,
            gap=0.68,
            p_value=1e-40,
            drifted=True,
        ).model_dump(mode="json")
    ],
}


def audit(job: JobView, *, done: bool) -> Any:
    report = LabelAuditReport(
        created_at=_TIME,
        label="dx",
        group="lesion_id",
        filtered=False,
        neighbours=10,
        images=10_015,
        compared=10_015,
        labelled=10_015,
        dropped={},
    )
    none = {"open": 0, "confirmed": 0, "dismissed": 0}
    counts: Any = {
        "conflicting_copies": none, "unlike_neighbours": {**none, "open": 12}, "copies": none,
    }  # fmt: skip
    view = LabelAuditView(
        id=_AUDIT, job=job, report=report if done else None, findings=counts if done else None
    )
    return view.model_dump(mode="json")
