"""All operations. A new one costs its file and one line here, plus its route and its command."""

from pipeline.base.errors import NotFound
from pipeline.operations.base import Lifetime, Operation
from pipeline.operations.browse import IMAGE, IMAGES
from pipeline.operations.compare import COMPARE
from pipeline.operations.delete import DELETE
from pipeline.operations.evaluate import EVALUATE
from pipeline.operations.explanation import EXPLANATION
from pipeline.operations.facets import COLLECTION, FACETS
from pipeline.operations.ingest import INGEST
from pipeline.operations.label_audit import LABEL_AUDIT
from pipeline.operations.rendering import RENDERING
from pipeline.operations.search import BATCH, SEARCH

OPERATIONS: tuple[Operation, ...] = (
    SEARCH,
    BATCH,
    IMAGES,
    IMAGE,
    FACETS,
    COLLECTION,
    RENDERING,
    EXPLANATION,
    INGEST,
    DELETE,
    LABEL_AUDIT,
    EVALUATE,
    COMPARE,
)

_BY_NAME = {operation.name: operation for operation in OPERATIONS}
if len(_BY_NAME) < len(OPERATIONS):
    raise ValueError("two operations have one name")


def operation(name: str) -> Operation:
    """Raises NotFound for an unknown name, as in a request that a newer version accepted."""
    if name not in _BY_NAME:
        raise NotFound(f"This worker knows no operation {name}: it may be older than the api.")
    return _BY_NAME[name]


def with_lifetime(lifetime: Lifetime) -> tuple[Operation, ...]:
    return tuple(o for o in OPERATIONS if o.lifetime == lifetime)
