"""`kindred delete` and `kindred undelete`: images gone for good, and how to take that back."""

from pathlib import Path
from typing import Annotated

import typer

from cli.client import connect
from cli.options import LOCAL_URL, Collection, Filter, Json, Url, examples, parse_filter
from cli.render import make_console, print_json
from cli.report import Report

app = typer.Typer()


@app.command(
    epilog=examples(
        "kindred delete ISIC_0025927",
        "kindred delete --same lesion_id=HAM_0000118 --yes --receipt receipt.json",
    )
)
def delete(
    image_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of indexed images.")
    ] = None,
    same: Annotated[
        str | None, typer.Option(metavar="FIELD=VALUE", help="A lesion or patient, by its id.")
    ] = None,
    filter_: Filter = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without a question.")] = False,
    receipt: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the list of what went there.")
    ] = None,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Delete images for good. No ingest brings them back until that is undone."""
    from cli import deletions

    wanted = deletions.make_deletion(image_ids or (), same, parse_filter(filter_))
    if not yes:
        deletions.refuse_unattended()
    with connect(url, collection) as client:
        if not yes:
            deletions.confirm(client, wanted)
        deletions.delete(client, wanted, receipt, Report(make_console(), as_json))


@app.command(epilog=examples("kindred undelete 0a1b2c3d"))
def undelete(
    deletion: Annotated[str, typer.Argument(metavar="ID", help="As `kindred delete` named it.")],
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Let the images of one deletion be ingested again."""
    with connect(url, collection) as client:
        receipt = client.undelete(deletion)
    if as_json:
        print_json(receipt)
    else:
        typer.echo(f"{receipt['count']:,} images may be ingested again")
