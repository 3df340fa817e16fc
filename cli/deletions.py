"""`kindred delete`: the images are counted and confirmed first, then deleted by a job."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from cli.client import Client
from cli.documents import Deletion, Document
from cli.failure import CommandError, Interrupted, UsageError, printable
from cli.follow import display, follow
from cli.render import print_json
from cli.report import Report
from cli.totals import failure_of
from pipeline.base.identity import spellings

SHOWN = 20  # ids in one line


def make_deletion(image_ids: Sequence[str], same: str | None, filter_: Document | None) -> Document:
    """The JSON of a deletion; `same` is FIELD=VALUE."""
    if sum((bool(image_ids), same is not None, filter_ is not None)) != 1:
        raise UsageError("delete one of: image ids, --same FIELD=VALUE, --filter")
    if image_ids:
        return {"image_ids": list(image_ids)}
    if filter_ is not None:
        return {"filter": filter_}
    field, equals, value = (same or "").partition("=")
    if not (field and equals and value):
        raise UsageError("--same takes FIELD=VALUE, as in lesion_id=HAM_0000118")
    return {"field": field, "value": value}


def refuse_unattended() -> None:
    """Raises UsageError where nobody can answer the question that `confirm` puts."""
    if not sys.stdin.isatty():
        raise UsageError("nobody can confirm here: add --yes to delete without a question")


def confirm(client: Client, wanted: Document) -> None:
    """Raises CommandError unless a person agrees to the number of images."""
    count = len(wanted["image_ids"]) if "image_ids" in wanted else _count(client, wanted)
    if not typer.confirm(f"Delete {count:,} images for good?"):
        raise CommandError("nothing was deleted")


def delete(client: Client, wanted: Document, receipt: Path | None, report: Report) -> None:
    """Returns when all is gone; `receipt` is the file that then lists what went."""
    done = _follow(client, client.delete(wanted), report)
    if done["state"] != "succeeded":
        raise CommandError(failure_of([done], "deletion") or f"it ended as {done['state']}")
    if receipt is not None:
        receipt.write_text(json.dumps(done, indent=2))
    if report.json:
        print_json(done)
    report.say(
        f"{done['count'] or 0:,} images deleted; `kindred undelete {done['id']}` lets them back in"
    )
    if missing := _not_indexed(wanted, done):
        typer.echo(f"not indexed, and kept away from now on: {missing}", err=True)


def _not_indexed(wanted: Document, done: Deletion) -> str:
    """The ids that were named and not found; a misspelt one would else go unseen."""
    found = set(done["image_ids"] or ())
    missing = [name for name in dict.fromkeys(wanted.get("image_ids", ())) if name not in found]
    more = f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
    return printable(", ".join(missing[:SHOWN]) + more)


def _follow(client: Client, deletion: Deletion, report: Report) -> Deletion:
    try:
        with display(report.console, quiet=report.json) as show:
            (done,) = follow(client.deletion, [deletion], show)
            return done
    except KeyboardInterrupt as stop:
        raise Interrupted(_goes_on(deletion["id"])) from stop


def _goes_on(identifier: str) -> str:
    how = f"`kindred jobs show {identifier}` says how far it has come"
    return f"deletion {identifier} goes on; {how}"


def _count(client: Client, wanted: Document) -> int:
    if "filter" in wanted:
        return int(client.facets(wanted["filter"])["count"])
    values = spellings(wanted["value"])
    conditions = [{"key": wanted["field"], "match": {"value": value}} for value in values]
    return int(client.facets({"should": conditions})["count"])
