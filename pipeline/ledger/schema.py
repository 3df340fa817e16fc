"""Which layout of keys a Redis holds. An older one is migrated or refused, a newer one refused."""

from collections.abc import Callable
from typing import Any

from pipeline.base.schema import SCHEMA_VERSION, refuse_other_schema

SCHEMA_KEY = "kindred:schema"

# From a version to what makes it the next one. Several processes can start at once, so a migration
# must be safe to repeat.
Migrations = dict[int, Callable[[Any], None]]
MIGRATIONS: Migrations = {}

# Version 1 had no number, and kept its jobs or at least its tombstones under these keys.
_VERSION_1 = ("kindred:jobs", "kindred:tombstones")


def check_schema(redis: Any, migrations: Migrations = MIGRATIONS) -> None:
    """Brings a Redis to our version; an empty one gets it. Raises SchemaMismatch."""
    found = _read_schema(redis)
    while found in migrations and found < SCHEMA_VERSION:
        migrations[found](redis)
        found += 1
        redis.set(SCHEMA_KEY, found)
    refuse_other_schema(found)


def _read_schema(redis: Any) -> int:
    if redis.get(SCHEMA_KEY) is None:
        if redis.exists(*_VERSION_1):
            return 1
        redis.set(SCHEMA_KEY, SCHEMA_VERSION, nx=True)  # another process may have been faster
    return int(redis.get(SCHEMA_KEY))
