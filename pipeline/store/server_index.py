"""The payload indexes of a collection on a Qdrant server."""

import logging
from collections.abc import Mapping

from qdrant_client import QdrantClient, models

from pipeline.messages.filters import json_path

logger = logging.getLogger("kindred.store")

# Words as the server, and the embedded engine, tell them apart where a field has no index. Any
# other parameters would give `match.text` and `phrase` another meaning.
_TEXT = models.TextIndexParams(
    type=models.TextIndexType.TEXT,
    tokenizer=models.TokenizerType.WORD,
    lowercase=True,
    phrase_matching=True,
)
# What of it may differ: where it lies, and how else it is used.
_NO_MEANING = {"on_disk", "memory", "enable_hnsw", "scoring"}


def add_indexes(client: QdrantClient, collection: str, indexes: Mapping[str, str]) -> None:
    """Adds those that are missing, and replaces those of another type.

    A text index that tells words apart in another way is replaced on every field, listed or not.
    """
    existing = client.get_collection(collection).payload_schema
    wanted = {json_path(field): kind for field, kind in indexes.items()}
    for path, kind in _other_words(existing, wanted).items():
        logger.warning("text index replaced: it told words apart in another way")
        _replace(client, collection, path, kind)
    for path, kind in wanted.items():
        if path not in existing:
            _create(client, collection, path, kind)
        elif existing[path].data_type != models.PayloadSchemaType(kind):
            _replace(client, collection, path, kind)


def _other_words(
    existing: Mapping[str, models.PayloadIndexInfo], wanted: Mapping[str, str]
) -> dict[str, str]:
    return {
        path: "text"
        for path, index in existing.items()
        if index.data_type == models.PayloadSchemaType.TEXT
        and wanted.get(path, "text") == "text"
        and not _has_our_words(index.params)
    }


def _has_our_words(params: object) -> bool:
    """What is not set is as it is without an index, but phrases."""
    ours, theirs = (
        {name: value for name, value in vars(each).items() if value and name not in _NO_MEANING}
        for each in (_TEXT, params or models.TextIndexParams(type=models.TextIndexType.TEXT))
    )
    defaults = {"tokenizer": models.TokenizerType.WORD}
    lowercase = getattr(params, "lowercase", None) is not False
    return lowercase and {**ours} == {"lowercase": True, **defaults, **theirs}


def _replace(client: QdrantClient, collection: str, path: str, kind: str) -> None:
    client.delete_payload_index(collection, path, wait=True)
    _create(client, collection, path, kind)


def _create(client: QdrantClient, collection: str, path: str, kind: str) -> None:
    schema = _TEXT if kind == "text" else models.PayloadSchemaType(kind)
    client.create_payload_index(collection, path, schema, wait=True)
