"""What people decided on findings of label audits. It outlives the audits.

decisions          finding → JSON of the decision
decisions:points   members POINT:FINDING, in the order of text: which decisions name an image

A finding's id is a hash, and a point's is one: of an image there is nothing else here.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from pipeline.ledger.connection import reachable
from pipeline.ledger.script import Script
from pipeline.messages.base import read
from pipeline.messages.label_audits import Decision


class _Stored(Decision):
    points: tuple[str, ...]


class Decisions:
    """Every method raises LedgerUnavailable when Redis is unavailable, and is safe to repeat."""

    def __init__(self, script: Script) -> None:
        self._redis = script.redis
        self._decided = script.key("decisions")
        self._points = script.key("decisions:points")

    def decide(self, finding: str, points: Sequence[UUID], decision: Decision) -> None:
        """Replaces an earlier decision."""
        with reachable():
            pipe = self._redis.pipeline(transaction=True)
            stored = _Stored(**dict(decision), points=tuple(map(str, points)))
            pipe.hset(self._decided, finding, stored.model_dump_json())
            pipe.zadd(self._points, {f"{point}:{finding}": 0 for point in points})
            pipe.execute()

    def undo(self, finding: str, points: Sequence[UUID]) -> None:
        with reachable():
            pipe = self._redis.pipeline(transaction=True)
            pipe.hdel(self._decided, finding)
            pipe.zrem(self._points, *(f"{point}:{finding}" for point in points))
            pipe.execute()

    def of(self, findings: Sequence[str]) -> Mapping[str, Decision]:
        """Those of the findings that are decided."""
        if not findings:
            return {}
        with reachable():
            found = self._redis.hmget(self._decided, findings)
        pairs = zip(findings, found, strict=True)
        return {finding: read(Decision, text) for finding, text in pairs if text}

    def forget(self, points: Sequence[UUID]) -> None:
        """Forgets every decision that names one of these images."""
        with reachable():
            pipe = self._redis.pipeline(transaction=False)
            for point in points:
                pipe.zrangebylex(self._points, f"[{point}:", f"({point};")
            named = {member for members in pipe.execute() for member in members}
            findings = sorted({member.partition(":")[2] for member in named})
            for finding in findings:
                text = self._redis.hget(self._decided, finding)
                others = read(_Stored, text).points if text else ()
                named.update(f"{point}:{finding}" for point in others)
            if named:
                pipe = self._redis.pipeline(transaction=True)
                pipe.hdel(self._decided, *findings)
                pipe.zrem(self._points, *named)
                pipe.execute()
