"""Matches a filter here, where a Qdrant server's strict mode does not take it.

qdrant-client's in-memory stand-in does the work. It passes the store's whole suite, so a filter
means the same as on a server and in the embedded engine.
"""

from uuid import UUID

from qdrant_client import models
from qdrant_client.local.payload_filters import check_filter

from pipeline.messages.filters import Filter, HasIdCondition
from pipeline.store.base import Record


def matches(wanted: Filter, record: Record) -> bool:
    theirs = models.Filter.model_validate(wanted.to_qdrant())
    return bool(check_filter(theirs, record.payload, str(record.id), {"": True}))


def named(wanted: Filter) -> set[UUID] | None:
    """The points among which all that match are, if the filter names some."""
    for condition in wanted.must or ():
        if isinstance(condition, HasIdCondition):
            return {UUID(str(point)) for point in condition.has_id if isinstance(point, str)}
    return None
