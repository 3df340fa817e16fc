"""How documents look in a terminal, and in a pipe."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import islice
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.documents import Collection, Document, Job, Rejection, StoredImage, counts_of
from cli.failure import printable
from cli.totals import Totals

PIPE_WIDTH = 200  # characters; a pipe has no width of its own, and ids must not be folded in it
FIRST_REJECTIONS = 5

_FIELDS = ("dx", "age", "sex", "localization")

Cells = Mapping[str, str]


def make_console() -> Console:
    """Markup is off: what data sets say is text."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(markup=False, highlight=False, width=width)


def print_json(document: Any) -> None:
    """The one document of `--json`."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def readiness_lines(found: Document) -> list[str]:
    """What /readyz answers: a line for the whole, and one for each part."""
    workers = found["workers"]
    whole = f"{found['status']}, {workers} worker{'' if workers == 1 else 's'} with a sound encoder"
    parts = [_part_line(name, found[name]) for name in ("broker", "store", "blobs")]
    receivers = found.get("receivers")
    return [whole, *parts, *([_receivers_line(receivers)] if receivers else [])]


def _receivers_line(receivers: Document) -> str:
    titles, processes = ", ".join(receivers["titles"]), receivers["processes"]
    several = "" if processes == 1 else "es"
    return printable(
        f"receivers: {titles} in {processes} process{several}, "
        f"{receivers['associations']} associations"
    )


def _part_line(name: str, part: Document) -> str:
    since = str(part.get("since") or "")[:16].replace("T", " ")
    why = f" since {since} UTC: {part.get('cause')}" if since else ""
    return printable(f"{name}: {part['state']}{why}")


# --- jobs ----------------------------------------------------------------------------------------


def totals_line(totals: Totals) -> str:
    """`1,487 = 1,480 embedded + 5 unchanged + 2 rejected`; else how far it came."""
    parts = " + ".join(f"{count:,} {name}" for name, count in totals.counts.items()) or "0 done"
    if totals.reconciled:
        dry = "dry run, nothing was stored: " if totals.dry_run else ""
        return f"{dry}{totals.total:,} = {parts}"
    total = "a source not counted yet" if totals.total is None else f"{totals.total:,}"
    return f"{totals.state}: {parts}, of {total}"


def skipped_line(totals: Totals) -> str | None:
    """`skipped 7 files: 4 text, 2 pdf, 1 hidden`; None if there are none."""
    if not totals.skipped:
        return None
    most_first = sorted(totals.skipped.items(), key=lambda pair: (-pair[1], pair[0]))
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in most_first)
    return printable(f"skipped {sum(totals.skipped.values()):,} files: {kinds}")


def print_rejections(
    console: Console, rejections: Iterable[Rejection], rejected: int, see_all: str | None
) -> None:
    """The first few, and how to see the others."""
    first = list(islice(rejections, FIRST_REJECTIONS))
    for rejection in first:
        console.print(rejection_line(rejection), style="yellow")
    if see_all and rejected > len(first):
        console.print(f"… and {rejected - len(first):,} more: {see_all}", soft_wrap=True)


def rejection_line(rejection: Rejection) -> Text:
    image = rejection.get("name") or rejection["image_id"]
    line = f"rejected: row {rejection['row']}, {image}: {rejection['reason']}"
    return Text(printable(line), overflow="fold")


def skipped_file_line(skipped: Document) -> Text:
    return Text(printable(f"skipped: {skipped['name']}: {skipped['kind']}"), overflow="fold")


def print_jobs(console: Console, jobs: Sequence[Job]) -> None:
    if not jobs:
        console.print("no jobs yet")
        return
    outcomes = list(dict.fromkeys(name for job in jobs for name in counts_of(job)))
    columns = ("id", "operation", "state", "total", *outcomes, "images/s", "left", "created (UTC)")
    rows = [_job_cells(job) for job in jobs]
    console.print(_table(columns, rows, numbers={"total", "images/s", "left", *outcomes}))


def _job_cells(job: Job) -> Cells:
    return {
        "id": job["id"],
        "operation": job.get("operation", "ingest"),
        "state": job["state"],
        "total": _number(job.get("total")),
        **{name: _number(count) for name, count in counts_of(job).items()},
        "images/s": _rate(job.get("images_per_second")),
        "left": duration(job.get("eta_seconds")),
        "created (UTC)": str(job.get("created_at") or "")[:19].replace("T", " "),
    }


# --- images --------------------------------------------------------------------------------------


def print_images(console: Console, images: Sequence[StoredImage]) -> None:
    """Images of a page, or of a search: a found one has a score."""
    if not images:
        console.print("no images")
        return
    rows = [_image_cells(image) for image in images]
    names = ("score", "closeness", *_FIELDS, "image id")
    columns = [c for c in names if any(row.get(c) for row in rows)]
    console.print(_table(columns, rows, numbers={"score", "age"}))


def _image_cells(image: StoredImage) -> Cells:
    payload = image["payload"]
    cells = {name: _value(payload[name]) for name in _FIELDS if payload.get(name) is not None}
    score = image.get("score")
    if isinstance(score, int | float):
        cells["score"] = f"{score:.4f}"
    if closeness := _closeness(image):
        cells["closeness"] = closeness
    return {**cells, "image id": image["image_id"]}


def _closeness(image: Mapping[str, Any]) -> str:
    """Such as `72% (63 to 80)`; a hit that is not close enough says so."""
    found, parts = image.get("closeness"), []
    if found:
        low, high = 100 * found["low"], 100 * found["high"]
        parts.append(f"{found['share']:.0%} ({low:.0f} to {high:.0f})")
    if image.get("close") is False:
        parts.append("not close")
    return ", ".join(parts)


def closeness_line(basis: Document) -> str:
    """What the column says."""
    return printable(
        f"closeness: of neighbours this similar, the share with the searched image's"
        f" {basis['label']}, with its interval of 95 % (evaluation {basis['evaluation']}, "
        f"{str(basis['created_at'])[:10]})"
    )


def print_facets(console: Console, found: Document) -> None:
    """How many images, and the values of each field with how many have it."""
    console.print(f"{found['count']:,} images")
    fields = {name: _range(span) for name, span in found["ranges"].items()}
    fields |= {
        name: ", ".join(f"{_value(v['value'])} {v['count']:,}" for v in values)
        for name, values in found["facets"].items()
    }
    for name, line in fields.items():
        console.print(Text(printable(f"{name}: {line}"), overflow="fold"))


def print_image(console: Console, image: StoredImage) -> None:
    """What is known of one, a line a field."""
    known = {**image["payload"], "image_id": image["image_id"], "point_id": image["point_id"]}
    print_fields(console, known)


def _range(span: Document) -> str:
    return f"{_value(span['min'])} to {_value(span['max'])}"


# --- collections ---------------------------------------------------------------------------------


def print_collections(console: Console, collections: Sequence[Collection]) -> None:
    rows: list[Cells] = [
        {
            "name": one["name"],
            "workers": _number(one["workers"]),
            "default": "yes" if one["default"] else "",
        }
        for one in collections
    ]
    print_rows(console, rows, "no collections yet: the first worker makes one", {"workers"})


# --- anything else -------------------------------------------------------------------------------


def print_fields(console: Console, fields: Document, prefix: str = "") -> None:
    """`name: value`, a line each; what is inside another is `outer.inner`."""
    for name, value in fields.items():
        if isinstance(value, dict):
            print_fields(console, value, f"{prefix}{name}.")
        elif value is not None:
            console.print(Text(printable(f"{prefix}{name}: {_value(value)}"), overflow="fold"))


def print_rows(
    console: Console, rows: Sequence[Cells], none: str, numbers: Set[str] = frozenset()
) -> None:
    """A table of the columns that the first row has, or the line that says that it is empty."""
    console.print(_table(list(rows[0]), rows, numbers) if rows else none)


# --- cells ---------------------------------------------------------------------------------------


def duration(seconds: float | None) -> str:
    """`4 s`, `12:05` or `3:07:00`."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _table(columns: Sequence[str], rows: Iterable[Cells], numbers: Set[str]) -> Table:
    """`numbers` are the columns whose cells stand at the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(row.get(column, ""))) for column in columns))
    return table


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _rate(value: float | None) -> str:
    return f"{value:.1f}" if value else ""


def _value(value: Any) -> str:
    """Ages are floats in most sources, and 45.0 years is 45."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
