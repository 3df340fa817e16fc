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
    Hit,
    ImagesAnswer,
    Receipt,
    SearchAnswer,
    StoredImage,
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
    RESERVED,
    Message,
    Payload,
)
from pipeline.messages.jobs import (
    INGEST_TASK,
    DatasetSource,
    Rejection,
    Source,
    UploadedFile,
    UploadManifest,
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
from pipeline.messages.states import (
    FINAL_STATES,
    JobState,
    RequestState,
)

__all__ = [
    "ASK_TASKS",
    "FINAL_STATES",
    "INGEST_TASK",
    "MAX_BATCH",
    "MAX_ID",
    "MAX_LIMIT",
    "MAX_PICTURES",
    "RESERVED",
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
    "Hit",
    "ImageAsk",
    "ImagesAnswer",
    "ImagesAsk",
    "JobState",
    "LiftAsk",
    "Message",
    "Payload",
    "Problem",
    "Receipt",
    "ReceiptAsk",
    "Rejection",
    "RequestState",
    "SearchAnswer",
    "SearchAsk",
    "SearchQuery",
    "Source",
    "StoredImage",
    "UploadManifest",
    "UploadSource",
    "UploadedFile",
    "ValueRange",
    "preview_path",
    "problem",
]
