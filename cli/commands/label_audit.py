"""`kindred audit-labels`: copies under different labels, and labels that no neighbour shares."""

from pathlib import Path
from typing import Annotated

import typer

from cli.client import connect
from cli.options import LOCAL_URL, Collection, Filter, Json, Url, examples, parse_filter
from cli.render import make_console
from cli.report import Report

app = typer.Typer()


@app.command(
    "audit-labels",
    epilog=examples(
        "kindred audit-labels --label dx",
        "kindred audit-labels --label dx --group lesion_id --csv findings.csv",
        "kindred audit-labels --show 0a1b2c3d --csv findings.csv",
    ),
)
def audit_labels(
    label: Annotated[str | None, typer.Option(metavar="FIELD", help="The field to audit.")] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="What belongs together; default: the lesion's field."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=20, help="Compare so many images; default 20,000.")
    ] = None,
    neighbours: Annotated[
        int, typer.Option(min=3, max=50, help="How many neighbours of each are asked.")
    ] = 10,
    show: Annotated[
        str | None, typer.Option(metavar="ID", help="List what an earlier audit found.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all findings there, as a table.")
    ] = None,
    filter_: Filter = None,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Find pictures that are there twice with different labels, and labels that look wrong."""
    from cli import label_audits

    report = Report(make_console(), as_json)
    with connect(url, collection) as client:
        if show is not None:
            label_audits.show(client, show, csv, report)
            return
        wanted = label_audits.make_request(label, group, sample, parse_filter(filter_))
        label_audits.audit(client, wanted | {"neighbours": neighbours}, csv, report)
