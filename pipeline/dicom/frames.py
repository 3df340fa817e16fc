"""Which frames of a file become images."""

import re
from dataclasses import dataclass
from typing import Literal, Self

# Frames of a file, unless all or every n-th are asked for.
MOST = 32

Kind = Literal["auto", "first", "middle", "all", "every"]
_FORM = re.compile(r"(auto|first|middle|all)|every ([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class FramePolicy:
    """`step` is of every n-th frame, from the first on."""

    kind: Kind = "auto"
    step: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of auto, first, middle, all or "every N". Raises ValueError."""
        found = _FORM.fullmatch(" ".join(text.split()))
        if found is None:
            raise ValueError("frames are auto, first, middle, all, or every N")
        kind: Kind = found[1] or "every"  # type: ignore[assignment]
        return cls(kind, int(found[2] or 1))

    def of(self, count: int) -> list[int]:
        """Of `count` frames, at least one, those that become images, counted from 0."""
        if self.kind == "auto":
            return evenly(count, MOST)
        if self.kind == "first":
            return [0]
        if self.kind == "middle":
            return [(count - 1) // 2]
        return list(range(0, count, self.step))


def parse(text: str) -> FramePolicy:
    """Raises ValueError."""
    return FramePolicy.parse(text)


def evenly(count: int, most: int) -> list[int]:
    """At most so many of `count` things, the first and the last among them, evenly spread."""
    if count <= most:
        return list(range(count))
    return [round(n * (count - 1) / (most - 1)) for n in range(most)]
