"""`kindred evaluate`: how good the search of a collection is."""

from typing import Annotated

import typer

from cli.client import connect
from cli.options import LOCAL_URL, Collection, Filter, Json, Url, examples, parse_filter
from cli.render import make_console
from cli.report import Report

app = typer.Typer()


@app.command(
    epilog=examples(
        "kindred evaluate --label dx --group lesion_id",
        "kindred evaluate --label dx --group patient_id --sample 5000 --json",
        "kindred evaluate --show 0a1b2c3d",
        "kindred evaluate --model collection --model facebook/dino-vits16,pooling=cls "
        "--label dx --group lesion_id",
    )
)
def evaluate(
    label: Annotated[
        str | None, typer.Option(metavar="FIELD", help="What similar images should share.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD", help="What belongs together, as lesion_id; none: nothing does."
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=100, help="Search by so many images; default 20,000.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the sample and the intervals.")] = 0,
    keep_near_duplicates: Annotated[
        bool, typer.Option("--keep-near-duplicates", help="Let copies in other groups be found.")
    ] = False,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Without a histogram of colours beside it.")
    ] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Compare encoders on the same images: name two or more, the first is what others "
            "are compared with. A name on the hub, a folder, or `collection` for the one in use; "
            "options follow, as in NAME,pooling=cls,preprocessing=crop.",
        ),
    ] = None,
    show: Annotated[
        str | None, typer.Option(metavar="ID", help="Print an earlier evaluation or comparison.")
    ] = None,
    filter_: Filter = None,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Measure how often similar images share a label, leave-one-out."""
    from cli import comparisons, evaluations

    report = Report(make_console(), as_json)
    with connect(url, collection) as client:
        if show is not None:
            comparisons.show(client, show, report)
            return
        wanted = evaluations.make_request(label, group, sample, parse_filter(filter_))
        wanted |= {"seed": seed, "baseline": not no_baseline}
        wanted["near_duplicates"] = "keep" if keep_near_duplicates else "leave_out"
        if model:
            comparisons.compare(client, comparisons.make_request(wanted, model), report)
            return
        evaluations.evaluate(client, wanted, report)
