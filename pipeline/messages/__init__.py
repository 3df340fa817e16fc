"""The JSON messages between the api and the workers.

Messages on the queue carry only ids. Bodies that can contain a patient's metadata are in the blobs.
"""

from pipeline.messages.answers import (
    EncoderInfo,
    Hit,
    StoredImage,
    preview_path,
    quarantine_path,
    unsealed,
)
from pipeline.messages.base import MAX_ID, RESERVED, SEALED, Message, Payload
from pipeline.messages.closeness import Closeness, ClosenessBasis
from pipeline.messages.deletions import Deletion, Receipt
from pipeline.messages.jobs import (
    IngestOptions,
    Rejection,
    SkippedFile,
    UploadedFile,
    UploadManifest,
)
from pipeline.messages.problems import Problem, problem
from pipeline.messages.quarantine import MOST_RECTANGLES, Rectangle, WithheldImage
from pipeline.messages.queries import COLLECTED, MAX_LIMIT, SERIES, Crop, SearchQuery
from pipeline.messages.sent import SentFile

__all__ = [
    "COLLECTED",
    "MAX_ID",
    "MAX_LIMIT",
    "MOST_RECTANGLES",
    "RESERVED",
    "SEALED",
    "SERIES",
    "Closeness",
    "ClosenessBasis",
    "Crop",
    "Deletion",
    "EncoderInfo",
    "Hit",
    "IngestOptions",
    "Message",
    "Payload",
    "Problem",
    "Receipt",
    "Rectangle",
    "Rejection",
    "SearchQuery",
    "SentFile",
    "SkippedFile",
    "StoredImage",
    "UploadManifest",
    "UploadedFile",
    "WithheldImage",
    "preview_path",
    "problem",
    "quarantine_path",
    "unsealed",
]
