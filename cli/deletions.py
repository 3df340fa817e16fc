"""`kindred delete` and `kindred undelete`: what goes is counted and confirmed first."""

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from cli.client import Client
from cli.documents import Document
from cli.failure import CommandError
from cli.render import print_json
from pipeline.base.identity import spellings


def make_deletion(image_ids: Sequence[str], same: str | None, filter_: Document | None) -> Document:
    """The JSON of a deletion; `same` is FIELD=VALUE."""
    if sum((bool(image_ids), same is not None, filter_ is not None)) != 1:
        raise CommandError("delete one of: image ids, --same FIELD=VALUE, --filter")
    if image_ids:
        return {"image_ids": list(image_ids)}
    if filter_ is not None:
        return {"filter": filter_}
    field, equals, value = (same or "").partition("=")
    if not (field and equals and value):
        raise CommandError("--same takes FIELD=VALUE, as in lesion_id=HAM_0000118")
    return {"field": field, "value": value}


def confirm(client: Client, wanted: Document) -> None:
    """Raises CommandError unless a person agrees to the number of images."""
    count = len(wanted["image_ids"]) if "image_ids" in wanted else _count(client, wanted)
    if not typer.confirm(f"Delete {count:,} images for good?"):
        raise CommandError("nothing was deleted")


def delete(client: Client, wanted: Document, receipt: Path | None, *, as_json: bool) -> None:
    done = client.delete(wanted)
    if receipt is not None:
        receipt.write_text(json.dumps(done, indent=2))
    if as_json:
        print_json(done)
        return
    typer.echo(
        f"{done['count']:,} images deleted; `kindred undelete {done['id']}` lets them back in"
    )


def _count(client: Client, wanted: Document) -> int:
    if "filter" in wanted:
        return int(client.facets(wanted["filter"])["count"])
    values = spellings(wanted["value"])
    conditions = [{"key": wanted["field"], "match": {"value": value}} for value in values]
    return int(client.facets({"should": conditions})["count"])
