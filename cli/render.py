"""How documents look in a terminal, and in a pipe."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.account import Account
from cli.documents import Document, Job, Rejection, StoredImage
from cli.failure import printable

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


# --- jobs ----------------------------------------------------------------------------------------


def account_line(account: Account) -> str:
    """`1,487 = 1,480 embedded + 5 unchanged + 2 rejected`; an open account says how far it came."""
    parts = (
        f"{account.embedded:,} embedded + {account.unchanged:,} unchanged"
        f" + {account.rejected:,} rejected"
    )
    if account.closed:
        return f"{account.total:,} = {parts}"
    total = "a source not counted yet" if account.total is None else f"{account.total:,}"
    return f"{account.state}: {parts}, of {total}"


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
    line = f"rejected: row {rejection['row']}, {rejection['key']}: {rejection['reason']}"
    return Text(printable(line), overflow="fold")


def print_jobs(console: Console, jobs: Sequence[Job]) -> None:
    if not jobs:
        console.print("no jobs yet")
        return
    columns = (
        "id",
        "state",
        "total",
        "embedded",
        "unchanged",
        "rejected",
        "images/s",
        "left",
        "created (UTC)",
    )
    console.print(_table(columns, [_job_cells(job) for job in jobs]))


def _job_cells(job: Job) -> Cells:
    return {
        "id": job["id"],
        "state": job["state"],
        "total": _number(job["total"]),
        "embedded": _number(job["embedded"]),
        "unchanged": _number(job["unchanged"]),
        "rejected": _number(job["rejected"]),
        "images/s": _rate(job.get("images_per_second")),
        "left": duration(job.get("eta_seconds")),
        "created (UTC)": str(job.get("created_at") or "")[:19].replace("T", " "),
    }


# --- images --------------------------------------------------------------------------------------


def print_images(console: Console, images: Sequence[StoredImage]) -> None:
    """Images held, or found: a found one has a score."""
    if not images:
        console.print("no images")
        return
    rows = [_image_cells(image) for image in images]
    columns = [c for c in ("score", *_FIELDS, "image id") if any(row.get(c) for row in rows)]
    console.print(_table(columns, rows))


def _image_cells(image: StoredImage) -> Cells:
    payload = image["payload"]
    cells = {name: _value(payload[name]) for name in _FIELDS if payload.get(name) is not None}
    score = image.get("score")
    if isinstance(score, int | float):
        cells["score"] = f"{score:.4f}"
    return {**cells, "image id": image["image_id"]}


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


def _range(span: Document) -> str:
    return f"{_value(span['min'])} to {_value(span['max'])}"


# --- anything else -------------------------------------------------------------------------------


def print_rows(console: Console, rows: Sequence[Cells], none: str) -> None:
    """A table of the columns that the first row has, or the line that says that it is empty."""
    console.print(_table(list(rows[0]), rows) if rows else none)


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


_RIGHT = frozenset(
    {"score", "age", "total", "embedded", "unchanged", "rejected", "images/s", "left"}
)


def _table(columns: Sequence[str], rows: Iterable[Cells]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in _RIGHT else "left", overflow="fold")
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
