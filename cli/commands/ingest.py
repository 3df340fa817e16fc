"""`kindred ingest`: images into the collection."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.client import connect
from cli.documents import Document
from cli.failure import UsageError
from cli.options import LOCAL_URL, Collection, Json, Url, examples
from cli.render import make_console
from cli.report import Report

if TYPE_CHECKING:
    from cli.upload import Selection

app = typer.Typer()


@app.command(
    epilog=examples(
        "kindred ingest /srv/dermoscopy",
        "kindred ingest marmal88/skin_cancer --split train --limit 500",
        "kindred ingest /srv/scans --table diagnoses.csv",
        "kindred ingest --upload scan1.jpg scan2.jpg",
        "kindred ingest dicomwebs://archive.example/dicom-web --modality CR --date 20250101-",
        "kindred ingest --kind dataset --set dataset=/srv/dermoscopy --set limit=500",
    )
)
def ingest(
    source: Annotated[
        list[str] | None,
        typer.Argument(
            help="A data set of the hub, a folder, parquet or an archive; or files to upload."
        ),
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
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only files that fit it, as *.jpg; repeat it."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="No files that fit it; repeat it.")
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Of DICOM files: a table of more metadata, by accession, patient or UID.",
        ),
    ] = None,
    label_from_folder: Annotated[
        bool, typer.Option("--label-from-folder", help="A picture's folder is its label.")
    ] = False,
    modality: Annotated[
        list[str] | None, typer.Option(help="Of an archive, only these, as CR; repeat it.")
    ] = None,
    date: Annotated[
        str | None, typer.Option(help="Of an archive, dates of studies, as 20250101-20250630.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second to an archive, of each worker; else 10.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Requests at once to an archive, of each worker; else 2.")
    ] = None,
    hours: Annotated[
        str | None, typer.Option(help="Hours in which an archive may be asked, as 20-06.")
    ] = None,
    replace_metadata: Annotated[
        bool,
        typer.Option("--replace-metadata", help="Remove what is known and not mentioned now."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count and inspect, and store nothing.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if anything is rejected.")] = False,
    upload: Annotated[
        bool, typer.Option("--upload", help="Send local files through the api.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> int:
    """Embed images, and follow the job to its end. Its totals come last."""
    from cli.ingest import Course, ingest_source, ingest_upload
    from cli.source import archive_of, dataset_source, parse_fields, table_path

    report = Report(make_console(), as_json)
    course = Course(detach, strict)
    flags = {"dry_run": dry_run, "replace_metadata": replace_metadata}
    options: Document = {name: True for name, wanted in flags.items() if wanted}
    sources = source or []
    if not sources and kind is None:
        raise UsageError("Missing argument 'SOURCE'")
    wanted: Document = {
        "split": split, "config": config, "id_column": id_column, "include": include,
        "exclude": exclude, "label_from_folder": label_from_folder or None,
        "image_column": image_column,
    }  # fmt: skip
    asked: Document = {
        "modality": modality or None, "date": date, "rate": rate, "concurrency": concurrency,
        "hours": hours,
    }  # fmt: skip
    if not (sources and archive_of(sources[0])):
        _refuse_options(asked, "has a meaning for dicomweb:// alone")
    if upload:
        wanted["table"] = table
        _refuse_with_upload({"revision": revision, "kind": kind, "set": fields or None})
        with connect(url, collection) as client:
            selection = _selection(sources, limit, wanted)
            return ingest_upload(client, selection, options, report, course)
    wanted |= {"revision": revision, "limit": limit, "kind": kind, **parse_fields(fields or ())}
    with connect(url, collection) as client:
        wanted["table"] = wanted.get("table") or table_path(table, client.host)
        if kind is None:
            wanted |= {**dataset_source(sources, client.host), **asked}
        elif sources:
            raise UsageError("with --kind, describe the source by --set alone")
        return ingest_source(client, wanted, options, report, course)


def _selection(sources: Sequence[str], limit: int | None, wanted: Document) -> "Selection":
    from cli.upload import Selection
    from pipeline.base.identity import ID_COLUMNS
    from pipeline.sources.folder.joined import read_joined
    from pipeline.sources.folder.survey import Rules

    rules = Rules(
        include=tuple(wanted["include"] or ()),
        exclude=tuple(wanted["exclude"] or ()),
        label_from_folder=bool(wanted["label_from_folder"]),
        id_fields=(wanted["id_column"],) if wanted["id_column"] else ID_COLUMNS,
        split=wanted["split"],
        table=read_joined(Path(wanted["table"]).expanduser()) if wanted["table"] else None,
    )
    return Selection(
        sources, rules, limit, wanted["id_column"], wanted["config"], wanted["image_column"]
    )


def _refuse_with_upload(options: Document) -> None:
    _refuse_options(options, "has no meaning with --upload")


def _refuse_options(options: Document, why: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--{name.replace('_', '-')} {why}")
