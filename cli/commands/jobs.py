"""`kindred jobs`: what the system was told to do, how far it has come, and changing its course."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from cli.client import connect
from cli.csv_file import write_csv
from cli.documents import Action, Job
from cli.drift import brought, drift_lines
from cli.failure import UsageError, printable
from cli.groups import ListingGroup
from cli.options import LOCAL_URL, Collection, Json, Url, examples
from cli.render import (
    make_console,
    print_jobs,
    print_json,
    rejection_line,
    skipped_file_line,
    skipped_line,
    totals_line,
)
from cli.report import Report
from cli.totals import failure_of, totals_of

app = typer.Typer(
    cls=ListingGroup,
    help="List jobs, show one, or change its course. Alone, it lists them.",
    epilog=examples("kindred jobs", "kindred jobs follow 0a1b2c3d"),
)

# Of the files that --csv writes.
COLUMNS = {"rejections": ("row", "name", "image_id", "reason"), "skipped": ("name", "kind")}

Csv = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the list there, as a table.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="As `kindred jobs list` shows it.")]


@app.command("list", epilog=examples("kindred jobs list", "kindred jobs list --state failed"))
def list_(
    state: Annotated[
        list[str] | None, typer.Option(help="Only jobs in this state, as running; repeat it.")
    ] = None,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """List the newest jobs."""
    with connect(url, collection) as client:
        jobs = client.jobs(state or ())
    if as_json:
        print_json({"jobs": jobs})
    else:
        print_jobs(make_console(), jobs)


@app.command(
    epilog=examples(
        "kindred jobs show 0a1b2c3d",
        "kindred jobs show 0a1b2c3d --rejections --csv rejected.csv",
        "kindred jobs show 0a1b2c3d --skipped",
    )
)
def show(
    job_id: JobId,
    with_rejections: Annotated[
        bool, typer.Option("--rejections", help="Instead, every image that it rejected, and why.")
    ] = False,
    with_skipped: Annotated[
        bool, typer.Option("--skipped", help="Instead, every file that it skipped, and its kind.")
    ] = False,
    csv: Csv = None,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Show how far one job has come, and why it has failed or waits."""
    if with_rejections and with_skipped:
        raise UsageError("--rejections or --skipped, one at a time")
    if csv is not None and not (with_rejections or with_skipped):
        raise UsageError("--csv goes with --rejections or --skipped")
    if with_rejections:
        rejections(job_id, csv, collection, url, as_json)
    elif with_skipped:
        skipped(job_id, csv, collection, url, as_json)
    else:
        with connect(url, collection) as client:
            job = client.job(job_id)
            _print_job(job, as_json=as_json)
            for line in () if as_json else drift_lines(client, brought([job]), patience=0):
                Report(make_console(), json=False).say(line)


@app.command(epilog=examples("kindred jobs follow 0a1b2c3d"))
def follow(
    job_id: JobId, collection: Collection = None, url: Url = LOCAL_URL, as_json: Json = False
) -> int:
    """Follow one job to its end, and print its totals."""
    from cli.ingest import follow_job

    with connect(url, collection) as client:
        return follow_job(client, client.job(job_id), Report(make_console(), as_json))


@app.command(
    epilog=examples(
        "kindred jobs rejections 0a1b2c3d", "kindred jobs rejections 0a1b2c3d --csv rejected.csv"
    )
)
def rejections(
    job_id: JobId,
    csv: Csv = None,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """List every image that one job rejected, and why."""
    with connect(url, collection) as client:
        _list("rejections", client.rejections(job_id), rejection_line, csv, as_json=as_json)


@app.command(epilog=examples("kindred jobs skipped 0a1b2c3d"))
def skipped(
    job_id: JobId,
    csv: Csv = None,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """List every file that one job skipped, and the kind of thing that it is."""
    with connect(url, collection) as client:
        _list("skipped", client.skipped(job_id), skipped_file_line, csv, as_json=as_json)


def _list(
    name: str,
    found: Iterable[Mapping[str, Any]],
    line: Callable[[Any], Text],
    csv: Path | None,
    *,
    as_json: bool,
) -> None:
    """Printed, or written, as they come: there can be very many."""
    if csv is not None:
        count = write_csv(csv, COLUMNS[name], found)
        Report(make_console(), as_json).say(f"{count:,} rows in {csv}")
    elif as_json:
        print_json({name: list(found)})
    else:
        console = make_console()
        for each in found:
            console.print(line(each))


@app.command(epilog=examples("kindred jobs cancel 0a1b2c3d"))
def cancel(
    job_id: JobId, collection: Collection = None, url: Url = LOCAL_URL, as_json: Json = False
) -> None:
    """End one job; what it has embedded stays."""
    _act(job_id, "cancel", url, collection, as_json=as_json)


@app.command(epilog=examples("kindred jobs pause 0a1b2c3d"))
def pause(
    job_id: JobId, collection: Collection = None, url: Url = LOCAL_URL, as_json: Json = False
) -> None:
    """Interrupt one job until it is resumed."""
    _act(job_id, "pause", url, collection, as_json=as_json)


@app.command(epilog=examples("kindred jobs resume 0a1b2c3d"))
def resume(
    job_id: JobId, collection: Collection = None, url: Url = LOCAL_URL, as_json: Json = False
) -> None:
    """Continue a job that was paused."""
    _act(job_id, "resume", url, collection, as_json=as_json)


@app.command(epilog=examples("kindred jobs retry 0a1b2c3d"))
def retry(
    job_id: JobId, collection: Collection = None, url: Url = LOCAL_URL, as_json: Json = False
) -> None:
    """Start again a job that failed, was cancelled or had rejections."""
    _act(job_id, "retry", url, collection, as_json=as_json)


def _act(job_id: str, action: Action, url: str, collection: str | None, *, as_json: bool) -> None:
    with connect(url, collection) as client:
        _print_job(client.act(job_id, action), as_json=as_json)


def _print_job(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    report = Report(make_console(), json=False)
    print_jobs(report.console, [job])
    totals = totals_of([job])
    report.say(totals_line(totals))
    if skipped_files := skipped_line(totals):
        report.say(skipped_files)
    if notice := job.get("notice"):
        report.say(printable(f"it waits: {notice}"))
    if failure := failure_of([job]):
        report.say(failure)
