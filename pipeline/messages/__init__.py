"""The JSON messages between the api and the workers.

Messages on the queue carry only ids. Bodies that can contain a patient's metadata are in the blobs.
"""

from pipeline.messages.answers import EncoderInfo, Hit, StoredImage, preview_path, unsealed
from pipeline.messages.base import MAX_ID, RESERVED, SEALED, Message, Payload
from pipeline.messages.deletions import Deletion, Receipt
from pipeline.messages.jobs import (
    IngestOptions,
    Rejection,
    SkippedFile,
    UploadedFile,
    UploadManifest,
)
from pipeline.messages.problems import Problem, problem
from pipeline.messages.queries import MAX_LIMIT, SERIES, SearchQuery
from pipeline.messages.sent import Named, SentFile

__all__ = [
    "MAX_ID",
    "MAX_LIMIT",
    "RESERVED",
    "SEALED",
    "SERIES",
    "Deletion",
    "EncoderInfo",
    "Hit",
    "IngestOptions",
    "Message",
    "Named",
    "Payload",
    "Problem",
    "Receipt",
    "Rejection",
    "SearchQuery",
    "SentFile",
    "SkippedFile",
    "StoredImage",
    "UploadManifest",
    "UploadedFile",
    "preview_path",
    "problem",
    "unsealed",
]
