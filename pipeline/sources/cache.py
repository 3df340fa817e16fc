"""Keeps the data sets of the hub that lie on this host within KINDRED_CACHE_GB.

Those that were used the longest ago go first, and none that a worker of this host has read from
within the last six hours: a mark in the cache says when, for all workers that share the cache. What
a running job still needs after that is fetched again, file by file. Models are never touched.
"""

import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

logger = logging.getLogger("kindred.cache")

IN_USE = 6 * 3600.0  # seconds since a data set was used last
_OURS = "kindred"  # the folder of our notes and marks in the library's cache
_SHARED = "downloads"  # what the library unpacked, of all data sets that it prepared


@dataclass(frozen=True)
class Kept:
    """One data set in one of the two caches. `used` is a time, `size` in bytes."""

    used: float
    size: int
    delete: Callable[[], object]


def mark_used(dataset: str) -> None:
    """Says that somebody reads a data set of the hub, or is about to."""
    mark = _mark(dataset)
    with suppress(OSError):  # the folder may be one that others fill
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def trim(limit: float | None) -> int:
    """Deletes until no more than `limit` GB are left, or all of it is in use. Returns bytes."""
    if limit is None:
        return 0
    kept = sorted([*_fetched(), *_prepared()], key=lambda each: each.used)
    over, freed = sum(each.size for each in kept) - limit * 1e9, 0
    for each in kept:
        if freed >= over or each.used > time.time() - IN_USE:
            break
        each.delete()
        freed += each.size
    if freed:
        logger.info("data sets deleted from the cache", extra={"bytes": freed})
    return freed


def _fetched() -> Iterator[Kept]:
    """What the hub's own library keeps: files as they are on the hub."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return
    for repo in cache.repos:
        if repo.repo_type == "dataset":
            commits = [revision.commit_hash for revision in repo.revisions]
            used = max(_marked(repo.repo_id), repo.last_modified)
            yield Kept(used, repo.size_on_disk, cache.delete_revisions(*commits).execute)


def _prepared() -> Iterator[Kept]:
    """What the `datasets` library keeps: Arrow files, and what it unpacked for them."""
    for folder in _entries(_cache()):
        if folder.is_dir() and folder.name != _OURS:
            marked = _marked(None if folder.name == _SHARED else folder.name)
            size, changed = _size_and_time(folder)
            delete = partial(shutil.rmtree, folder, ignore_errors=True)
            yield Kept(max(marked, changed), size, delete)


def _size_and_time(folder: Path) -> tuple[int, float]:
    found = [path.lstat() for path in folder.rglob("*")]
    times = [each.st_mtime for each in found]
    return sum(each.st_blocks * 512 for each in found), max(times, default=0.0)


def _marked(dataset: str | None) -> float:
    """When a data set was used last, 0 if nobody knows; None: any of them."""
    marks = [_mark(dataset)] if dataset else _entries(_cache() / _OURS / "used")
    return max((mark.stat().st_mtime for mark in marks if mark.exists()), default=0.0)


def _mark(dataset: str) -> Path:
    """By letters and digits alone: the library calls a folder `org___my_data` for Org/MyData."""
    return _cache() / _OURS / "used" / re.sub(r"[^a-z0-9]", "", dataset.lower())


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _cache() -> Path:
    from datasets import config

    return Path(config.HF_DATASETS_CACHE)
