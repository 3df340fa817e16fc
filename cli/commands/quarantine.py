"""`kindred quarantine`: images that may have names in their pixels, until an admin has looked."""

from pathlib import Path
from typing import Annotated

import typer

from cli.client import Client, connect
from cli.deletions import refuse_unattended
from cli.documents import Document
from cli.failure import CommandError, UsageError
from cli.groups import ListingGroup
from cli.options import LOCAL_URL, Collection, Json, Url, examples
from cli.render import make_console, print_fields, print_json, print_rows

app = typer.Typer(
    cls=ListingGroup,
    help="Look at images that may show names; release or refuse them. Alone, it lists them.",
    epilog=examples("kindred quarantine", "kindred quarantine release 0a1b2c3d"),
)

ImageIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of images that wait.")]
ImageId = Annotated[str, typer.Argument(metavar="ID", help="Id of an image that waits.")]
Masks = Annotated[
    list[str],
    typer.Option(
        "--rectangle",
        metavar="LEFT,TOP,WIDTH,HEIGHT",
        help="In pixels; may be repeated. `proposed`: those that `show` names.",
    ),
]


@app.command(
    "list", epilog=examples("kindred quarantine list", "kindred quarantine list --limit 200 --json")
)
def list_(
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 50,
    cursor: Annotated[int, typer.Option(help="Where the page before ended.")] = 0,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """List the images that wait, a page at a time, the oldest first."""
    with connect(url, collection) as client:
        page = client.get("quarantine", limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    console = make_console()
    rows = [
        {
            "image id": image["image_id"],
            "since (UTC)": image["time"][:19].replace("T", " "),
            "modality": str(image["metadata"].get("modality", "")),
            "why": image["reason"],
            "state": "being released" if image["releasing"] else "waits",
        }
        for image in page["images"]
    ]
    print_rows(console, rows, "nothing waits")
    if page["cursor"] is not None:
        console.print(f"{page['count']:,} in all; the next: --cursor {page['cursor']}")


@app.command(epilog=examples("kindred quarantine show 0a1b2c3d --picture scan.png"))
def show(
    image_id: ImageId,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the whole picture there, as a PNG.")
    ] = None,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Show what is known of one image, and where text may stand."""
    with connect(url, collection) as client:
        image = client.get("quarantine", image_id)
        if picture is not None:
            picture.write_bytes(client.quarantined_picture(image_id))
    if as_json:
        print_json(image)
        return
    console = make_console()
    print_fields(console, {name: v for name, v in image.items() if name != "rectangles"})
    for each in image["rectangles"]:
        console.print(f"rectangle: {_text_of(each)}")


@app.command(
    epilog=examples(
        "kindred quarantine release 0a1b2c3d", "kindred quarantine release 0a1b2c3d 4e5f6071"
    )
)
def release(
    image_ids: ImageIds,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Let images be found as they are. A job embeds them; `kindred jobs follow` shows it."""
    with connect(url, collection) as client:
        job = client.quarantine("release", {"image_ids": image_ids})
    _tell(job, f"job {job['id']} embeds {_images(len(image_ids))}", as_json=as_json)


@app.command(
    epilog=examples(
        "kindred quarantine mask 0a1b2c3d --rectangle 0,0,800,60",
        "kindred quarantine mask 0a1b2c3d --rectangle proposed",
    )
)
def mask(
    image_ids: ImageIds,
    rectangle: Masks,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Make rectangles black in images, then let them be found."""
    with connect(url, collection) as client:
        jobs = [
            client.quarantine("release", {"image_ids": ids, "rectangles": rectangles})
            for ids, rectangles in _masked(client, image_ids, rectangle)
        ]
    text = f"jobs {', '.join(job['id'] for job in jobs)} embed {_images(len(image_ids))}, masked"
    _tell({"jobs": jobs}, text, as_json=as_json)


@app.command(epilog=examples("kindred quarantine refuse 0a1b2c3d --yes"))
def refuse(
    image_ids: ImageIds,
    yes: Annotated[bool, typer.Option("--yes", help="Refuse without a question.")] = False,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Delete images that wait. The same pictures are rejected from now on."""
    if not yes:
        refuse_unattended()
        if not typer.confirm(f"Delete {_images(len(image_ids))} and reject the same pictures?"):
            raise CommandError("nothing was refused")
    with connect(url, collection) as client:
        done = client.quarantine("refuse", {"image_ids": image_ids})
    _tell(done, f"{_images(done['count'])} refused", as_json=as_json)


@app.command(epilog=examples("kindred quarantine allow 0a1b2c3d"))
def allow(
    image_ids: ImageIds,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Take back that images were refused: ingest them again, and they wait here again."""
    with connect(url, collection) as client:
        done = client.quarantine("allow", {"image_ids": image_ids})
    _tell(done, f"{_images(done['count'])} may come again", as_json=as_json)


def _masked(
    client: Client, image_ids: list[str], texts: list[str]
) -> list[tuple[list[str], list[Document]]]:
    """Images with their rectangles: one job for all that share them."""
    if texts != ["proposed"]:
        return [(image_ids, [_rectangle(text) for text in texts])]
    found = []
    for image_id in image_ids:
        rectangles = client.get("quarantine", image_id)["rectangles"]
        if not rectangles:
            raise CommandError(f"no rectangle is proposed for {image_id}")
        found.append(([image_id], rectangles))
    return found


def _rectangle(text: str) -> Document:
    """Raises UsageError."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
        raise UsageError("--rectangle takes LEFT,TOP,WIDTH,HEIGHT in pixels, as in 0,0,800,60")
    return dict(zip(_SIDES, map(int, parts), strict=True))


_SIDES = ("left", "top", "width", "height")


def _text_of(rectangle: Document) -> str:
    return ",".join(str(rectangle[side]) for side in _SIDES)


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _tell(document: Document, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        typer.echo(text)
