"""`kindred images`: what is indexed. `kindred delete` removes images."""

from pathlib import Path
from typing import Annotated

import typer

from cli.client import Client, connect
from cli.documents import Document, ImagePage
from cli.groups import ListingGroup
from cli.options import LOCAL_URL, Collection, Filter, Json, Url, examples, parse_filter
from cli.render import make_console, print_image, print_images, print_json

app = typer.Typer(
    cls=ListingGroup,
    help="List, show or export the indexed images. Alone, it lists them.",
    epilog=examples("kindred images", "kindred images export vectors"),
)


@app.command(
    "list",
    epilog=examples("kindred images list --limit 5", "kindred images list --all --json"),
)
def list_(
    filter_: Filter = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All pages from there.")] = False,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """List the indexed images, a page at a time."""
    condition = parse_filter(filter_)
    with connect(url, collection) as client:
        page = client.images(condition, limit, cursor)
        if every:
            page = _with_all_that_follow(client, page, condition, limit)
    if as_json:
        print_json(page)
        return
    console = make_console()
    print_images(console, page["images"])
    if page.get("cursor"):
        console.print(f"there are more: --cursor {page['cursor']}", soft_wrap=True)


def _with_all_that_follow(
    client: Client, page: ImagePage, condition: Document | None, limit: int
) -> ImagePage:
    images, cursor = list(page["images"]), page["cursor"]
    while cursor:
        page = client.images(condition, limit, cursor)
        images += page["images"]
        cursor = page["cursor"]
    return {"images": images, "cursor": None}


@app.command(epilog=examples("kindred images show ISIC_0025927"))
def show(
    image_id: Annotated[str, typer.Argument(metavar="ID", help="Id of an indexed image.")],
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Show what is known of one image."""
    with connect(url, collection) as client:
        image = client.image(image_id)
    if as_json:
        print_json(image)
    else:
        print_image(make_console(), image)


@app.command(epilog=examples("kindred images export vectors"))
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder, or an empty one.")],
    filter_: Filter = None,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Write all vectors as vectors.npy, and beside them payloads.jsonl, one line a row."""
    from cli.export import export_images

    condition = parse_filter(filter_)
    with connect(url, collection) as client:
        rows = export_images(client, folder, condition)
    if as_json:
        print_json({"rows": rows})
    else:
        typer.echo(f"{rows:,} vectors in {folder / 'vectors.npy'}")
