"""What must hold when the dust has settled. Every check returns what is wrong, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import qdrant_edge as edge

from pipeline.base.blobs import preview_name
from pipeline.base.identity import point_id
from pipeline.base.states import FINAL_STATES
from pipeline.operations.base import QUEUES

if TYPE_CHECKING:
    from tests.chaos.rig import Rig
from workers.queue import queues_of


def jobs_are_closed(rig: Rig) -> list[str]:
    """All final, none failed, accounts closed, and nothing rejected but what had to be."""
    wrong = []
    views = {view["id"]: view for view in rig.views() or []}
    wrong += [f"job {job} was accepted and is gone" for job in rig.jobs.keys() - views.keys()]
    for job, view in views.items():
        done = view["embedded"] + view["unchanged"] + view["rejected"]
        if view["state"] not in FINAL_STATES:
            wrong.append(f"job {job} is not final: {view}")
        elif view["state"] in ("failed", "cancelled"):
            wrong.append(f"job {job} failed: {view['error']}")
        elif done != view["total"] or done - view["rejected"] != len(rig.jobs.get(job, ())):
            wrong.append(f"the account of job {job} is open: {view}")
    total = sum(view["rejected"] for view in views.values())
    if total != rig.poison:
        wrong.append(f"{total} rows rejected, {rig.poison} expected: {rejections(rig)[:5]}")
    return wrong


def rejections(rig: Rig) -> list[dict[str, str]]:
    """Of all jobs, as the api tells them (the first thousand of each)."""
    pages = (rig.http.get(f"/v1/jobs/{job}/rejections?limit=1000").json() for job in rig.jobs)
    return [row for page in pages for row in page["rejections"]]


def searches_are_settled(rig: Rig) -> tuple[Counter[str], list[str]]:
    """How many ended how; every one that was accepted has an end."""
    states: Counter[str] = Counter()
    wrong = []
    for search in rig.searches:
        answer = rig.http.get(f"/v1/searches/{search}")
        view = answer.json()
        state = view.get("state", f"answered with {answer.status_code}")
        why = f": {view['error']['title']}" if state == "failed" else ""
        states[state + why] += 1
        if state not in ("succeeded", "failed"):
            wrong.append(f"search {search} is {state}")
    return states, wrong


def nothing_is_owed(rig: Rig) -> list[str]:
    """No lease, nothing that waits, no open request, no message on a queue."""
    redis, ours = rig.system.client(), rig.namespace
    living = redis.zrangebyscore(f"{ours}:workers", redis.time()[0] - 10, "+inf")
    messages = {name: redis.llen(name) for w in living for name in queues_of(rig.collection, w)}
    sizes = {
        **{f"leases of {q}": redis.zcard(f"{ours}:leases:{q}") for q in QUEUES},
        **{f"active jobs of {q}": redis.llen(f"{ours}:active:{q}") for q in QUEUES},
        **{f"quarantined of {q}": redis.llen(f"{ours}:quarantine:{q}") for q in QUEUES},
        **{f"messages of {name}": size for name, size in messages.items()},
        "waiting items": redis.zcard(f"{ours}:waiting"),
        "open requests": redis.zcard(f"{ours}:requests"),
        "items": sum(1 for _ in redis.scan_iter(f"{ours}:item:*")),
    }
    for queue in QUEUES:
        held = redis.hvals(f"{ours}:workers:load:{queue}")
        sizes[f"lanes of {queue} that count as busy"] = sum(map(int, held))
    redis.close()
    return [f"{size} {name} are left" for name, size in sizes.items() if size]


def store_is_right(rig: Rig, expected: set[str]) -> list[str]:
    """Read with the engine alone, once the worker has stopped: each image once, and no other."""
    [path] = [p.parent for p in (rig.data / "store").rglob("encoder.json")]
    shard = edge.EdgeShard.load(str(path))
    found: list[tuple[UUID, str]] = []
    cursor = None
    while True:
        records, cursor = shard.scroll(edge.ScrollRequest(offset=cursor, limit=1000))
        found += [(record.id, record.payload["image_id"]) for record in records]
        if cursor is None:
            break
    shard.close()
    return points_are_right(rig, found, {point_id(image_id) for image_id in expected})


def points_are_right(rig: Rig, found: Sequence[tuple[UUID, str]], wanted: set[UUID]) -> list[str]:
    """`found`: each point with its image's id."""
    points = Counter(point for point, _ in found)
    return [
        *_count("points are missing", wanted - points.keys()),
        *_count("points were not expected", points.keys() - wanted),
        *_count("points are there twice", {p for p, times in points.items() if times > 1}),
        *_count(
            "points have another's id", {p for p, image_id in found if point_id(image_id) != p}
        ),
        *_count("previews are missing", {p for p in wanted if not _preview(rig, p).exists()}),
    ]


def _preview(rig: Rig, point: UUID) -> Path:
    return rig.data / "blobs" / rig.collection / preview_name(point)


def _count(what: str, points: set[UUID]) -> list[str]:
    return [f"{len(points)} {what}, such as {min(points)}"] if points else []
