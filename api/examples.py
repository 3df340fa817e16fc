"""An example of each call, for the OpenAPI document. Our models make those of the answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from api import examples_of_care as care
from api.readiness import Part, Readiness
from api.routes.quarantine import QuarantinedView, QuarantineView
from api.stored import CLASS_NOT_SUPPORTED, Instance, Outcome
from api.stored import JSON as DICOM_JSON
from api.stored import XML as DICOM_XML
from pipeline.base.identity import point_id
from pipeline.base.outage import Away
from pipeline.ledger import JobRecord
from pipeline.messages import (
    Closeness,
    ClosenessBasis,
    EncoderInfo,
    Hit,
    Receipt,
    Rectangle,
    Rejection,
    StoredImage,
    preview_path,
    quarantine_path,
)
from pipeline.messages.comparisons import (
    ComparedModel,
    ComparedPair,
    ComparisonReport,
    ComparisonRequest,
    Difference,
    ModelChoice,
)
from pipeline.messages.evaluations import (
    ClassQuality,
    Confusion,
    Estimate,
    EvaluationReport,
    EvaluationRequest,
    NearDuplicates,
    Ranking,
)
from pipeline.operations.browse import ImagesAnswer
from pipeline.operations.compare import ComparisonView
from pipeline.operations.delete import DeletionView
from pipeline.operations.evaluate import EvaluationView
from pipeline.operations.explanation import (
    ComparedPicture,
    ExplanationAnswer,
    Patch,
    PatchMatch,
)
from pipeline.operations.facets import CollectionAnswer, FacetsAnswer, FacetValue, ValueRange
from pipeline.operations.job import JobView
from pipeline.operations.search import BatchAnswer, SearchAnswer

FORM = "multipart/form-data"
JSON = "application/json"


@dataclass(frozen=True)
class Example:
    """`request` has a body for each media type; `answers` one for each status.

    `typed` has those of a status that differ by media type.
    """

    request: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    typed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_IMAGE, _OTHER = "ISIC_0025927", "ISIC_0027419"
_HASHED = "1586ddcce6c020c5fdc3eb189ce5f4bd"
_ID, _NEXT = "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9", "1b2c3d4e-5f60-4182-93a4-b5c6d7e8f90a"
_MELANOMA = {"must": [{"key": "dx", "match": {"value": "melanoma"}}]}
_PAYLOAD = {"image_id": _OTHER, "lesion_id": "HAM_0000118", "dx": "melanoma", "age": 60}
_TIME = 1_767_225_600.0  # 2026-01-01

PARAMETERS: dict[str, Any] = {
    "collection": "kindred",
    "deletion": _ID,
    "evaluation": _ID,
    "comparison": _ID,
    "filter": '{"must": [{"key": "dx", "match": {"value": "melanoma"}}]}',
    "identifier": _ID,
    "image_id": _IMAGE,
    "job": _ID,
    "limit": 50,
    "state": ["failed"],
    "study": "1.2.276.0.7230010.3.1.2.1",
    **care.PARAMETERS,
}


def _shown(model: BaseModel) -> Any:
    return model.model_dump(mode="json")


_RUNNING = JobRecord(
    id=_ID,
    operation="ingest",
    queue="ingest",
    request='{"source": {"kind": "dataset", "dataset": "/srv/scans", "split": "train"}}',
    state="running",
    total=200,
    counts={"embedded": 120, "unchanged": 28, "rejected": 2},
    images_per_second=14.5,
    created_at=_TIME,
    started_at=_TIME + 1,
    finished_at=None,
    error=None,
)


def _job(**changes: Any) -> Any:
    return _shown(JobView.of(replace(_RUNNING, **changes)))


def _audit(**changes: Any) -> JobView:
    counts = {"audited": 200}
    record = replace(_RUNNING, operation="label_audit", request="", counts=counts)
    return JobView.of(replace(record, **changes))


_NEW: dict[str, Any] = {"total": None, "counts": {}, "images_per_second": None, "started_at": None}
_HIT = Hit(
    image_id=_OTHER,
    point_id=str(point_id(_OTHER)),
    payload=_PAYLOAD,
    preview_url=preview_path(_OTHER, "/v1"),
    score=0.93,
    closeness=Closeness(share=0.72, low=0.63, high=0.8, neighbours=310, label="melanoma"),
    close=True,
)
_BASIS = ClosenessBasis(
    evaluation=_ID,
    created_at=datetime.fromtimestamp(_TIME, UTC),
    label="dx",
    images=42,
    least_score=0.61,
)
_FOUND = _shown(SearchAnswer(id=_ID, results=(_HIT,), closeness=_BASIS, no_close_match=False))
_STORED = StoredImage(**_HIT.model_dump(exclude={"score", "closeness", "close"}, exclude_none=True))
_FACETS = {"dx": (FacetValue(value="melanoma", count=12), FacetValue(value="nevus", count=30))}
_RECEIPT = Receipt(id=_ID, count=1, image_ids=(_IMAGE,))
_DELETING = DeletionView(id=_ID, state="running", final=False, total=1)
_AWAY = Away(since=_TIME, cause="Blobs cannot be read or written just now: timed out.")
_DELETED = DeletionView(
    id=_ID, state="succeeded", final=True, total=1, deleted=1, count=1, image_ids=(_IMAGE,)
)

_ENCODER = EncoderInfo(
    model="facebook/dino-vits16",
    revision=None,
    weights_sha256="3c1f…",
    pooling="mean",
    preprocessing="9e07…",
    dimensions=384,
)
_BEGAN = datetime.fromtimestamp(_TIME, UTC)
_EVALUATING = EvaluationView(
    id=_ID,
    state="running",
    final=False,
    created_at=_BEGAN,
    total=1487,
    counts={"evaluated": 300},
)
_P_AT_5 = {"precision_at_5": Estimate(value=0.62, low=0.6, high=0.64)}
_EVALUATED = EvaluationView(
    id=_ID,
    state="succeeded",
    final=True,
    created_at=_BEGAN,
    total=1487,
    counts={"evaluated": 1487},
    report=EvaluationReport(
        id=_ID,
        created_at=_BEGAN,
        encoder=_ENCODER,
        request=EvaluationRequest(label="dx", group="lesion_id"),
        images=1487,
        evaluated=1487,
        groups=1487,
        left_out={},
        rankings=(
            Ranking(
                name="embedding",
                overall=_P_AT_5,
                macro=_P_AT_5,
                classes=(ClassQuality(label="melanoma", images=250, held=250, metrics=_P_AT_5),),
            ),
        ),
        same_group=None,
        near_duplicates=NearDuplicates(pairs=2, images=4, other_label=0, treatment="leave_out"),
        confusion=Confusion(labels=("melanoma", "nevus"), shares=((0.6, 0.4), (0.2, 0.8))),
        thresholds=(),
        calibration=(),
        seconds={"read": 0.4, "nearest": 0.3, "histogram": 1.5, "metrics": 0.6},
    ),
)

_INSTANCE = Instance("1.2.840.10008.5.1.4.1.1.1", "1.2.276.0.7230010.3.1.4.1")
_FAILED = Instance("1.2.840.10008.5.1.4.1.1.88.11", "1.2.276.0.7230010.3.1.4.2")


def _stored(*stored: Instance, failed: Sequence[tuple[Instance, int]] = ()) -> Mapping[str, Any]:
    outcome = Outcome([*stored], [*failed])
    return {DICOM_JSON: outcome.document(), DICOM_XML: outcome.encoded(DICOM_XML).decode()}


_STORE = Example(
    dict.fromkeys(("multipart/related", "application/dicom"), "(the bytes of DICOM files)"),
    typed={
        "200": _stored(_INSTANCE),
        "202": _stored(_INSTANCE, failed=[(_FAILED, CLASS_NOT_SUPPORTED)]),
        "409": _stored(failed=[(_FAILED, CLASS_NOT_SUPPORTED)]),
    },
)

_PICTURE = Patch(left=0, top=0, width=1, height=1)
_LEFT, _RIGHT = (Patch(left=left, top=0, width=0.5, height=1) for left in (0, 0.5))
_EXPLANATION = ExplanationAnswer(
    id=_ID,
    first=ComparedPicture(
        image_id=_IMAGE, seen=_PICTURE, rows=1, columns=2, weights=(0.82, 0.0), counterparts=(1, 1)
    ),
    second=ComparedPicture(
        image_id=_OTHER, seen=_PICTURE, rows=1, columns=2, weights=(0.0, 0.82), counterparts=(0, 0)
    ),
    matches=(PatchMatch(first=_LEFT, second=_RIGHT, similarity=0.87, mutual=True),),
)

_RECTANGLE = Rectangle(left=0, top=0, width=800, height=59)
_WAITING = QuarantinedView(
    image_id=_HASHED,
    sha256="9b1d…",
    reason="it is ultrasound, where the machine writes names into the pixels",
    job=_ID,
    time=datetime.fromtimestamp(_TIME, UTC),
    metadata={"image_id": _HASHED, "modality": "US"},
    source={"kind": "upload"},
    width=800,
    height=600,
    rectangles=(_RECTANGLE,),
    releasing=None,
    preview_url=f"{quarantine_path(_HASHED, '/v1')}/preview",
    picture_url=f"{quarantine_path(_HASHED, '/v1')}/picture",
)
_RELEASING = _job(state="planning", request='{"source": {"kind": "quarantine"}}', **_NEW)

_ENCODER = EncoderInfo(
    model="facebook/dino-vits16",
    revision=None,
    weights_sha256="3c1f…",
    pooling="mean",
    preprocessing="9e07…",
    dimensions=384,
)
_MODELS = (ModelChoice(model="collection"), ModelChoice(model="facebook/dino-vits16"))
_BETTER = Difference(value=0.041, low=0.012, high=0.07, p=0.0064)
_COMPARISON = ComparisonReport(
    id=_ID,
    created_at=datetime.fromtimestamp(_TIME, UTC),
    request=ComparisonRequest(models=_MODELS, label="dx", group="lesion_id"),
    images=1990,
    groups=1804,
    left_out={"no label": 10},
    models=(
        ComparedModel(
            name="collection",
            encoder=_ENCODER,
            untrained=False,
            weights_bytes=43_300_000,
            images_per_second=None,
            ranking=Ranking(
                name="collection",
                overall={"precision_at_10": Estimate(value=0.71, low=0.69, high=0.73)},
                macro={"precision_at_10": Estimate(value=0.38, low=0.35, high=0.41)},
            ),
        ),
    ),
    pairs=(
        ComparedPair(
            first="collection",
            other="facebook/dino-vits16",
            overall={"precision_at_10": _BETTER},
            macro={"precision_at_10": _BETTER},
        ),
    ),
    seconds={"read": 0.4, "embed": 96.2, "evaluate": 4.1},
)
_COMPARING = ComparisonView(
    id=_ID,
    state="running",
    final=False,
    created_at=datetime.fromtimestamp(_TIME, UTC),
    total=4000,
    counts={"evaluated": 2600},
)
_COMPARED = _COMPARING.model_copy(
    update={"state": "succeeded", "final": True, "report": _COMPARISON}
)

EXAMPLES: dict[str, Example] = {
    "is_alive": Example(answers={"200": {"status": "alive"}}),
    "is_ready": Example(
        answers={
            "200": _shown(
                Readiness(workers=2, store=Part(state="ok"), blobs=Part.of("partial", _AWAY))
            )
        }
    ),
    "get_metrics": Example(
        answers={"200": 'kindred_workers{collection="kindred"} 1.0\n'},
    ),
    "get_session": Example(answers={"200": {"role": "search", "name": "ward 3", "keys": True}}),
    "sign_in": Example({JSON: {"key": "kindred_0a1b2c3d_…"}}),
    "list_collections": Example(
        answers={"200": {"collections": [{"name": "kindred", "default": True, "workers": 1}]}}
    ),
    "create_job": Example(
        {JSON: {"dataset": "/srv/scans", "split": "train"}},
        {"202": _job(state="planning", **_NEW)},
    ),
    "list_jobs": Example(answers={"200": {"jobs": [_job()], "cursor": None}}),
    "get_job": Example(answers={"200": _job()}),
    "list_rejections": Example(
        answers={
            "200": {
                "rejections": [
                    {
                        **_shown(Rejection(image_id="0f3a…", row=17, reason="it is empty")),
                        "name": "ward 3/scan.jpg",
                    }
                ],
                "cursor": None,
            }
        }
    ),
    "list_skipped": Example(
        answers={"200": {"skipped": [{"name": "notes.txt", "kind": "text"}], "cursor": None}}
    ),
    "get_drift": Example(answers={"200": care.DRIFT}),
    "create_label_audit": Example(
        {JSON: care.REQUEST}, {"202": care.audit(_audit(**_NEW), done=False)}
    ),
    "list_label_audits": Example(answers={"200": {"audits": [_shown(_audit())], "cursor": None}}),
    "get_label_audit": Example(
        answers={"200": care.audit(_audit(state="succeeded", finished_at=_TIME), done=True)}
    ),
    "list_findings": Example(answers={"200": care.findings()}),
    "export_findings": Example(answers={"200": care.TABLE}),
    "confirm_finding": Example(answers={"200": care.CONFIRMED}),
    "dismiss_finding": Example(answers={"200": care.DISMISSED}),
    "undo_decision": Example(answers={"200": care.OPEN}),
    "get_deidentification": Example(
        answers={
            "200": {
                "job": _ID,
                "files": 40,
                "frames": 52,
                "refused": 1,
                "quarantined": 3,
                "kept": {"Modality": 40, "PatientID": 40, "StudyDate": 38},
                "dropped": {"PatientName": 40, "InstitutionName": 22, "private elements": 310},
                "skipped": {"dicom sr": 4},
            }
        }
    ),
    "rotate_pseudonyms": Example(answers={"200": {"keys": 2}}),
    "name_files": Example(
        {JSON: {"names": ["ward 3/IMG0001.dcm"]}},
        {"200": {"names": [["dicom/3c1f7a90b2d4e6f8"]]}},
    ),
    "follow_job": Example(
        answers={"200": f"event: job\ndata: {JobView.of(_RUNNING).model_dump_json()}\n\n"}
    ),
    "cancel_job": Example(answers={"200": _job(state="cancelled", finished_at=_TIME + 20)}),
    "pause_job": Example(answers={"200": _job(state="paused")}),
    "resume_job": Example(answers={"200": _job()}),
    "retry_job": Example(answers={"200": _job(state="planning", **_NEW)}),
    "search": Example(
        {
            JSON: {"image_id": _IMAGE, "filter": _MELANOMA, "limit": 10, "min_closeness": 0.5},
            FORM: {"image": ["(the bytes of a picture)"], "query": '{"limit": 10}'},
        },
        {
            "200": _FOUND,
            "202": _shown(SearchAnswer(id=_ID, state="queued")),
        },
    ),
    "search_batch": Example(
        {
            JSON: {
                "searches": [
                    {"image_id": _IMAGE, "min_closeness": 0.5},
                    {"text": "a mole on the back", "limit": 5},
                ]
            }
        },
        {
            "200": _shown(
                BatchAnswer(
                    id=_ID, results=((_HIT,), ()), closeness=_BASIS, no_close_match=(False, None)
                )
            ),
            "202": _shown(BatchAnswer(id=_ID, state="queued")),
        },
    ),
    "render": Example(
        {FORM: {"image": "(the bytes of a picture)", "shown": '{"frame": 3}'}},
        {"200": "(the bytes of a JPEG)"},
    ),
    "explain": Example(
        {
            JSON: {"first": {"image_id": _IMAGE}, "second": {"image_id": _OTHER}},
            FORM: {
                "image": ["(the bytes of a picture)"],
                "query": '{"first": {}, "second": {"image_id": "ISIC_0027419"}}',
            },
        },
        {
            "200": _shown(_EXPLANATION),
            "202": _shown(ExplanationAnswer(id=_ID, state="queued")),
        },
    ),
    "get_explanation": Example(answers={"200": _shown(_EXPLANATION)}),
    "open_study": Example(),
    "opened": Example(
        {JSON: {"token": "q83v…"}},
        {"200": {"kind": "study", "keys": ["5f1d7a84db00d2fce00b31a7fc73224f"]}},
    ),
    "get_search": Example(answers={"200": _FOUND}),
    "create_deletion": Example(
        {JSON: {"field": "lesion_id", "value": "HAM_0000118"}},
        {"200": _shown(_DELETED), "202": _shown(_DELETING)},
    ),
    "get_deletion": Example(answers={"200": _shown(_DELETED)}),
    "lift_deletion": Example(answers={"200": _shown(_RECEIPT)}),
    "create_comparison": Example(
        {JSON: _COMPARISON.request.model_dump(mode="json", exclude_none=True)},
        {"202": _shown(_COMPARING)},
    ),
    "list_comparisons": Example(answers={"200": {"comparisons": [_shown(_COMPARING)]}}),
    "get_comparison": Example(answers={"200": _shown(_COMPARED)}),
    "create_evaluation": Example(
        {JSON: {"label": "dx", "group": "lesion_id"}},
        {"202": _shown(EvaluationView(id=_ID, state="planning", final=False, created_at=_BEGAN))},
    ),
    "list_evaluations": Example(answers={"200": {"evaluations": [_shown(_EVALUATING)]}}),
    "get_evaluation": Example(answers={"200": _shown(_EVALUATED)}),
    "upload_images": Example(
        {
            FORM: {
                "files": ["(the bytes of a picture)"],
                "metadata": '[{"image_id": "ISIC_0025927", "dx": "nevus"}]',
            }
        },
        {"202": _job(state="planning", request='{"source": {"kind": "upload"}}', **_NEW)},
    ),
    "store_instances": _STORE,
    "store_instances_of_study": _STORE,
    "list_images": Example(
        answers={"200": _shown(ImagesAnswer(images=(_STORED,), cursor=_NEXT))},
    ),
    "get_image": Example(answers={"200": _shown(_STORED)}),
    "delete_image": Example(answers={"200": _shown(_RECEIPT), "202": _shown(_DELETING)}),
    "get_collection": Example(
        answers={
            "200": _shown(
                CollectionAnswer(
                    count=42,
                    encoder=_ENCODER,
                    searches_text=False,
                    lesion_field="lesion_id",
                    untrained=False,
                    group_fields=("dx", "lesion_id"),
                    facets=_FACETS,
                    closeness=_BASIS,
                )
            )
        }
    ),
    "get_facets": Example(
        answers={
            "200": _shown(
                FacetsAnswer(count=42, facets=_FACETS, ranges={"age": ValueRange(min=5, max=85)})
            )
        }
    ),
    "list_quarantine": Example(
        answers={"200": _shown(QuarantineView(images=(_WAITING,), count=1, cursor=None))}
    ),
    "get_quarantined_image": Example(answers={"200": _shown(_WAITING)}),
    "release_images": Example(
        {JSON: {"image_ids": [_HASHED], "rectangles": [_shown(_RECTANGLE)]}}, {"202": _RELEASING}
    ),
    "release_image": Example({JSON: {"rectangles": [_shown(_RECTANGLE)]}}, {"202": _RELEASING}),
    "refuse_images": Example({JSON: {"image_ids": [_HASHED]}}, {"200": {"count": 1}}),
    "refuse_image": Example(answers={"200": {"count": 1}}),
    "allow_images": Example({JSON: {"image_ids": [_HASHED]}}, {"200": {"count": 1}}),
    "backup_ledger": Example(answers={"200": '{"key": "kindred:kindred:jobs", …}\n'}),
    "backup_keys": Example(answers={"200": {"keys": []}}),
}
