"""What travels between the api and the workers, as JSON: job sources, asks and answers.

Messages on the queue carry ids alone. The bodies lie with the ledger (sources) or as blobs (asks
and their answers, which can hold a patient's metadata).
"""

from pipeline.messages.answers import (
    BatchAnswer,
    CollectionAnswer,
    EncoderInfo,
    Facets,
    FacetsAnswer,
    FacetValue,
    HeldImage,
    Hit,
    ImagesAnswer,
    Receipt,
    SearchAnswer,
    ValueRange,
    preview_path,
)
from pipeline.messages.asks import (
    ASK_TASKS,
    MAX_BATCH,
    MAX_PICTURES,
    Ask,
    BatchAsk,
    CollectionAsk,
    DeleteAsk,
    Deletion,
    FacetsAsk,
    ImageAsk,
    ImagesAsk,
    LiftAsk,
    ReceiptAsk,
    SearchAsk,
)
from pipeline.messages.base import (
    MAX_ID,
    Message,
    Payload,
)
from pipeline.messages.jobs import (
    INGEST_TASK,
    DatasetSource,
    Manifest,
    Rejection,
    Source,
    UploadedFile,
    UploadSource,
)
from pipeline.messages.problems import (
    Problem,
    problem,
)
from pipeline.messages.queries import (
    MAX_LIMIT,
    SearchQuery,
)

__all__ = [
    "ASK_TASKS",
    "INGEST_TASK",
    "MAX_BATCH",
    "MAX_ID",
    "MAX_LIMIT",
    "MAX_PICTURES",
    "Ask",
    "BatchAnswer",
    "BatchAsk",
    "CollectionAnswer",
    "CollectionAsk",
    "DatasetSource",
    "DeleteAsk",
    "Deletion",
    "EncoderInfo",
    "FacetValue",
    "Facets",
    "FacetsAnswer",
    "FacetsAsk",
    "HeldImage",
    "Hit",
    "ImageAsk",
    "ImagesAnswer",
    "ImagesAsk",
    "LiftAsk",
    "Manifest",
    "Message",
    "Payload",
    "Problem",
    "Receipt",
    "ReceiptAsk",
    "Rejection",
    "SearchAnswer",
    "SearchAsk",
    "SearchQuery",
    "Source",
    "UploadSource",
    "UploadedFile",
    "ValueRange",
    "preview_path",
    "problem",
]
