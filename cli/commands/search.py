"""`kindred search`, `batch` and `facets`: questions that are answered at once."""

from pathlib import Path
from typing import Annotated

import typer

from cli.client import connect
from cli.options import LOCAL_URL, Collection, Filter, Json, Url, examples, parse_filter
from cli.render import make_console, print_facets, print_json

app = typer.Typer()


@app.command(
    epilog=examples(
        "kindred search photo.jpg --limit 5",
        "kindred search --id ISIC_0025927 --not-same lesion_id --save pictures",
        "kindred search scan.dcm --frame 12 --not-same-lesion",
        "kindred search --series 1.2.840.113619.2.1.1 --group-by study_id",
        "kindred search --like ISIC_0025927 --unlike ISIC_0024306",
        'kindred search photo.jpg --text "with an irregular border" --text-weight 0.7',
    )
)
def search(
    image: Annotated[list[Path] | None, typer.Argument(help="Image files, of DICOM too.")] = None,
    image_id: Annotated[
        str | None, typer.Option("--id", help="Id of an indexed image, or SOP Instance UID.")
    ] = None,
    frame: Annotated[
        int | None, typer.Option(min=1, help="Of a DICOM file; else its middle one.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Compare all frames and files as one series.")
    ] = False,
    series: Annotated[
        list[str] | None, typer.Option(help="All images of it, by its UID or key; repeat it.")
    ] = None,
    study: Annotated[list[str] | None, typer.Option(help="All images of it, likewise.")] = None,
    accession: Annotated[
        list[str] | None, typer.Option(help="All images of this Accession Number, likewise.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Words, if the encoder reads text.")] = None,
    text_weight: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Of words beside an image: 0 only the image, 1 only them."),
    ] = None,
    like: Annotated[
        list[str] | None, typer.Option(help="Like this indexed image; repeat it.")
    ] = None,
    unlike: Annotated[list[str] | None, typer.Option(help="Unlike this one; repeat it.")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="Of examples: average_vector, best_score or best_match.")
    ] = None,
    crop: Annotated[
        str | None, typer.Option(help="Only this part: LEFT,TOP,WIDTH,HEIGHT, each 0 to 1.")
    ] = None,
    filter_: Filter = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this id; repeat it.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Not this id; repeat it.")] = None,
    not_same: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="None with the query's own value, as of lesion_id."),
    ] = None,
    not_same_lesion: Annotated[
        bool, typer.Option("--not-same-lesion", help="Neither the image itself, nor its lesion's.")
    ] = False,
    duplicates: Annotated[
        int | None,
        typer.Option(
            metavar="BITS",
            help="Near-duplicates: hashes differ in at most so many bits of 256, as 40.",
        ),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Least score.")] = None,
    min_closeness: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Mark hits of which fewer neighbours agreed, as 0.5."),
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Images with one value count as one.")
    ] = None,
    group_size: Annotated[int | None, typer.Option(min=1, help="Shown of each group.")] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every image that fits; slower.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many neighbours.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="How many to leave out.")] = 0,
    include: Annotated[list[str] | None, typer.Option(help="Only this field; repeat it.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Not this field; repeat it.")] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Save the pictures found there.")
    ] = None,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Find the images most similar to one, to several, to a series, or to words."""
    from cli.search import (
        MOST_FILES,
        make_query,
        parse_crop,
        print_found,
        save_pictures,
        spread,
    )

    options = {
        "image_id": image_id, "text": text, "text_weight": text_weight,
        "positive": like, "negative": unlike,
        "series": series, "study": study, "accession": accession, "frame": frame,
        "strategy": "best_match" if whole else strategy,
        "crop": parse_crop(crop), "filter": parse_filter(filter_),
        "ids": only, "not_ids": without, "not_same": not_same,
        "exclude_same_lesion": not_same_lesion or None, "max_hash_distance": duplicates,
        "score_threshold": threshold, "min_closeness": min_closeness,
        "group_by": group_by, "group_size": group_size,
        "exact": exact or None, "limit": limit, "offset": offset or None,
        "include": include, "exclude": exclude,
    }  # fmt: skip
    files = spread(image or (), MOST_FILES) if whole else image or ()
    query = make_query(options, files)
    with connect(url, collection) as client:
        found = client.search(query, files)
        if save is not None:
            save_pictures(client, found["results"] or [], save)
    if as_json:
        print_json(found)
    else:
        print_found(make_console(), found, min_closeness)


@app.command(
    epilog=examples(
        "kindred batch searches.json",
        """echo '[{"image_id": "ISIC_0025927", "limit": 3}]' | kindred batch -""",
    )
)
def batch(
    file: Annotated[Path, typer.Argument(help="A JSON list of searches; - reads standard input.")],
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Answer several searches at once. Each has its own filter, fields and limit."""
    from cli.search import print_batch, read_batch

    with connect(url, collection) as client:
        found = client.batch(read_batch(file))
    if as_json:
        print_json(found)
        return
    print_batch(make_console(), found)


@app.command(
    epilog=examples(
        "kindred facets",
        """kindred facets --filter '{"must": [{"key": "age", "range": {"gte": 60}}]}'""",
    )
)
def facets(
    filter_: Filter = None,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Count the images that fit a filter, and their values."""
    with connect(url, collection) as client:
        found = client.facets(parse_filter(filter_))
    if as_json:
        print_json(found)
    else:
        print_facets(make_console(), found)
