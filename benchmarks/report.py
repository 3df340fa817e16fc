"""Formats numbers: medians with their spread, goals, and tables in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Raises ValueError if there are no values."""
        if not values:
            raise ValueError("nothing was measured")
        return cls(median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        """For example 14.7 (13.9 .. 15.2)."""
        return f"{number(self.median)} ({number(self.low)} .. {number(self.high)})"


def p95(values: Sequence[float]) -> float:
    return float(np.percentile(values, 95))


@dataclass(frozen=True)
class Goal:
    """A promised figure; `more` says that larger is better."""

    what: str
    measured: float
    wanted: float
    more: bool

    @property
    def met(self) -> bool:
        return self.measured >= self.wanted if self.more else self.measured <= self.wanted

    def __str__(self) -> str:
        sign = ">=" if self.more else "<="
        verdict = "met" if self.met else "MISSED"
        return f"{verdict}: {self.what} {self.measured:.2f}, wanted {sign} {self.wanted:g}"


def ratios(slower: Sequence[float], faster: Sequence[float]) -> list[float]:
    """How many times faster the second is, pair by pair. Both are times."""
    return [a / b for a, b in zip(slower, faster, strict=True)]


def number(value: float | None) -> str:
    """About three digits without exponents; a dash for a missing value."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column is left-aligned and whose others are right-aligned."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(aligned)} |"

    rule = [("-" * (width - 1) + ":") if i else "-" * width for i, width in enumerate(widths)]
    return "\n".join([line(header), line(rule), *map(line, rows)])
