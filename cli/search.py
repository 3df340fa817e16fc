"""`kindred search`: the query that the options make, and what is done with the answer."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from rich.console import Console

from cli.client import Client
from cli.documents import Document, Hit, Search, problem_line
from cli.failure import CommandError, UsageError
from cli.render import closeness_line, print_images

# Near-duplicates are looked for among images at least this similar, unless --threshold says else.
DUPLICATES_THRESHOLD = 0.9

MOST_FILES = 32  # that the api takes with one search


def spread(files: Sequence[Path], most: int) -> Sequence[Path]:
    """At most so many of the files of a series, evenly."""
    if len(files) <= most:
        return files
    return [files[round(n * (len(files) - 1) / (most - 1))] for n in range(most)]


def make_query(options: Document, images: Sequence[Path]) -> Document:
    """The JSON of a search: what was given, and a sensible threshold for near-duplicates."""
    query = {name: value for name, value in options.items() if value not in (None, [])}
    mixed = "text_weight" in query
    if mixed and "text" not in query:
        raise UsageError("--text-weight says how much the words of --text count beside an image")
    named = ("image_id", *(() if mixed else ("text",)), "series", "study", "accession")
    targets = [name for name in named if name in query]
    if len(targets) + bool(images or query.get("positive")) != 1:
        raise UsageError(
            "search for one of: image files or --like, --id, --text, --series, --study, --accession"
        )
    if "max_hash_distance" in query:
        query.setdefault("score_threshold", DUPLICATES_THRESHOLD)
    return query


def parse_crop(text: str | None) -> Document | None:
    """LEFT,TOP,WIDTH,HEIGHT in fractions."""
    if text is None:
        return None
    names = ("left", "top", "width", "height")
    try:
        return dict(zip(names, map(float, text.split(",")), strict=True))
    except ValueError as error:
        raise UsageError(
            "--crop takes LEFT,TOP,WIDTH,HEIGHT as parts of the picture, as in 0.25,0.25,0.5,0.5"
        ) from error


def read_batch(file: Path) -> list[Document]:
    """A JSON list of searches, from a file or from standard input (-)."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        searches = json.loads(text)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CommandError(f"{file} is not JSON: {error}") from error
    if not isinstance(searches, list):
        raise CommandError(f'{file} must hold a JSON list, as in [{{"image_id": …}}, …]')
    return searches


def print_found(console: Console, found: Search, min_closeness: float | None) -> None:
    """The hits, what their closeness rests on, and whether none reaches the chosen level."""
    print_hits(console, found["results"] or [])
    if basis := found.get("closeness"):
        console.print(closeness_line(basis))
    if min_closeness is None:
        return
    if "no_close_match" not in found:
        console.print("nothing is known of closeness: the worker may be older than this command")
    elif found["no_close_match"]:
        console.print(f"no close match: none reaches {min_closeness:.0%}", style="yellow")


def print_hits(console: Console, hits: Sequence[Hit]) -> None:
    """Each with the others of its group below it."""
    flat: list[Any] = [image for hit in hits for image in (hit, *(hit.get("others") or ()))]
    print_images(console, flat)


def print_batch(console: Console, found: Search) -> None:
    """The hits of each search. Raises CommandError if one of them has failed, after the others."""
    results = found["results"] or []
    errors = found.get("errors") or [None] * len(results)
    none_close = cast(list[Any], found.get("no_close_match") or [None] * len(results))
    faults = []
    for number, (hits, error) in enumerate(zip(results, errors, strict=True), 1):
        if error is None:
            print_hits(console, hits)
            if none_close[number - 1]:
                console.print("no close match", style="yellow")
        else:
            faults.append(f"search {number}: {problem_line(error, 'it has failed')}")
    if faults:
        raise CommandError("\n".join(faults))


def save_pictures(client: Client, hits: Sequence[Hit], folder: Path) -> None:
    """The previews, named by rank and image id."""
    folder.mkdir(parents=True, exist_ok=True)
    for rank, hit in enumerate(hits, 1):
        name = f"{rank:03}-{quote(hit['image_id'], safe='')[:200]}.jpg"
        (folder / name).write_bytes(client.preview(hit["image_id"]))
