"""`kindred ingest`: images into the collection."""

from typing import Annotated

import typer

from cli.client import connect
from cli.documents import Document
from cli.failure import UsageError
from cli.options import LOCAL_URL, Collection, Json, Url, examples
from cli.render import make_console
from cli.report import Report

app = typer.Typer()


@app.command(
    epilog=examples(
        "kindred ingest /srv/dermoscopy",
        "kindred ingest marmal88/skin_cancer --split train --limit 500",
        "kindred ingest --upload scan1.jpg scan2.jpg",
        "kindred ingest --kind dataset --set dataset=/srv/dermoscopy --set limit=500",
    )
)
def ingest(
    source: Annotated[
        list[str] | None,
        typer.Argument(help="A data set of the hub, a folder or parquet; or files to upload."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the data set, or all; else train.")
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="Configuration of the data set, if it has several.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag on the hub.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of the images.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of the images' ids.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Another kind of source, which --set describes.")
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A field of the source: JSON or text; repeat it."
        ),
    ] = None,
    upload: Annotated[
        bool, typer.Option("--upload", help="Send local files through the api.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> int:
    """Embed images, and follow the job to its end. Its totals come last."""
    from cli.ingest import ingest_source, ingest_upload
    from cli.source import dataset_source, parse_fields

    report = Report(make_console(), as_json)
    options: Document = {
        "split": split, "config": config, "revision": revision, "image_column": image_column,
        "id_column": id_column,
    }  # fmt: skip
    sources = source or []
    if not sources and kind is None:
        raise UsageError("Missing argument 'SOURCE'")
    if upload:
        _refuse_with_upload({**options, "kind": kind, "set": fields or None})
        with connect(url, collection) as client:
            return ingest_upload(client, sources, limit, report, detach=detach)
    options |= {"limit": limit, "kind": kind, **parse_fields(fields or ())}
    with connect(url, collection) as client:
        if kind is None:
            options |= dataset_source(sources, client.host)
        elif sources:
            raise UsageError("with --kind, describe the source by --set alone")
        return ingest_source(client, options, report, detach=detach)


def _refuse_with_upload(options: Document) -> None:
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--{name.replace('_', '-')} has no meaning with --upload")
