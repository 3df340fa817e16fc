"""`kindred backup` and `kindred restore`: one collection, and all that belongs to it."""

from pathlib import Path
from typing import Annotated

import typer

from cli.client import connect
from cli.options import LOCAL_URL, Collection, Data, Json, Url, examples
from cli.render import print_json

app = typer.Typer()


@app.command(epilog=examples("kindred backup /backups/2026-01-31"))
def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder, or an empty one.")],
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Copy a collection out of a running system.

    Its images, vectors, jobs and tombstones, and the keys of the api, into one folder.
    """
    from cli.backup import backup as copy_out

    with connect(url, collection) as client:
        manifest = copy_out(client, folder)
    if as_json:
        print_json(manifest)
    else:
        typer.echo(f"{manifest['images']:,} images and {manifest['blobs']:,} blobs in {folder}")


@app.command(epilog=examples("kindred restore /backups/2026-01-31 --data /srv/kindred"))
def restore(
    folder: Annotated[Path, typer.Argument(help="What `kindred backup` wrote.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Bring a backup onto an empty machine. Nothing may run there yet.

    The collection has the name that KINDRED_COLLECTION gives it.
    """
    from cli.backup import how_to_start
    from cli.backup import restore as bring_back
    from cli.up import load_settings

    settings = load_settings(data)
    manifest = bring_back(folder, settings)
    if as_json:
        print_json(manifest)
    else:
        typer.echo(f"{manifest['images']:,} images are back; {how_to_start(settings)}")
