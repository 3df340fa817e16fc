"""`kindred collections`: which ones the api serves."""

from typing import Annotated

import typer

from cli.client import connect
from cli.groups import ListingGroup
from cli.options import LOCAL_URL, Json, Url, examples
from cli.render import make_console, print_collections, print_fields, print_json

app = typer.Typer(
    cls=ListingGroup,
    help="List the collections, or show one. Alone, it lists them.",
    epilog=examples("kindred collections", "kindred collections show dermoscopy"),
)


@app.command("list", epilog=examples("kindred collections list"))
def list_(url: Url = LOCAL_URL, as_json: Json = False) -> None:
    """List the collections with the number of workers that serve each."""
    with connect(url) as client:
        collections = client.collections()
    if as_json:
        print_json({"collections": collections})
    else:
        print_collections(make_console(), collections)


@app.command(epilog=examples("kindred collections show dermoscopy"))
def show(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Without it, the default one.")
    ] = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Show how many images a collection has, and what embedded them."""
    with connect(url, name) as client:
        collection = client.collection()
    if as_json:
        print_json(collection)
    else:
        print_fields(make_console(), collection)
