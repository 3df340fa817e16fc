"""What was done and what it cost, as Markdown and as JSON."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.chaos.run import Outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """Times are from the end of a fault until a search asked then was answered, or ingest moved."""
    done = [one for outcome in outcomes for one in outcome.done]
    lines = [
        "| fault | times | search back, s: median (most) | ingest back, s: median (most) |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name in sorted({one.name for one in done}):
        of_it = [one for one in done if one.name == name]
        search = _times([one.search for one in of_it if one.search])
        ingest = _times([one.ingest for one in of_it if one.ingest])
        lines.append(f"| {name} | {len(of_it)} | {search} | {ingest} |")
    return "\n".join(lines)


def summary(outcomes: Sequence[Outcome]) -> str:
    searches: dict[str, int] = {}
    for outcome in outcomes:
        for state, count in outcome.searches.items():
            searches[state] = searches.get(state, 0) + count
    ended = ", ".join(f"{count:,} {state}" for state, count in sorted(searches.items()))
    return (
        f"{len(outcomes)} runs of {sum(o.seconds for o in outcomes) / 60:.0f} minutes in all, "
        f"seeds {', '.join(str(o.seed) for o in outcomes)}: {kills(outcomes)} worker kills, "
        f"{sum(o.decoders_killed for o in outcomes)} decoder kills; "
        f"{sum(o.jobs for o in outcomes)} jobs, {sum(o.images for o in outcomes):,} images; "
        f"searches: {ended}, {sum(o.refused for o in outcomes):,} refused with 503 or no connection"
    )


def kills(outcomes: Sequence[Outcome]) -> int:
    return sum(one.name.startswith("worker: SIGKILL") for o in outcomes for one in o.done)


def document(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {"runs": [asdict(outcome) for outcome in outcomes], "worker_kills": kills(outcomes)}


def _times(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{statistics.median(values):.1f} ({max(values):.1f})"
