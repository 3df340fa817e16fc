"""`kindred explain`: which parts of two pictures look alike to the encoder."""

from pathlib import Path
from typing import Annotated

import typer

from cli.client import connect
from cli.options import LOCAL_URL, Collection, Json, Url, examples
from cli.render import make_console, print_json

app = typer.Typer()


@app.command(
    epilog=examples(
        "kindred explain photo.jpg --id ISIC_0025927 --save why.png",
        "kindred explain --id ISIC_0025927 --id ISIC_0027419",
    )
)
def explain(
    image: Annotated[list[Path] | None, typer.Argument(help="Image files, of DICOM too.")] = None,
    image_id: Annotated[
        list[str] | None, typer.Option("--id", help="Id of an indexed image; repeat it.")
    ] = None,
    frame: Annotated[
        int | None, typer.Option(min=1, help="Of the first file, if it is DICOM; else its middle.")
    ] = None,
    crop: Annotated[
        str | None, typer.Option(help="Only this part of the first: LEFT,TOP,WIDTH,HEIGHT, 0 to 1.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many matching parts to name.")] = 30,
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save both as a .png or .jpg, bright where they match."),
    ] = None,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Show which parts of two pictures look alike to the encoder. It shows no diagnosis."""
    from cli.explain import make_query, print_matches, save_picture
    from cli.search import parse_crop

    files = image or []
    query = make_query(files, image_id or [], frame, parse_crop(crop), limit)
    with connect(url, collection) as client:
        found = client.explain(query, files)
        if save is not None:
            save_picture(client, query, files, found, save)
    if as_json:
        print_json(found)
    else:
        print_matches(make_console(), found)
