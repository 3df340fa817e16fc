"""`kindred jobs`: what the system was told to do, how far it has come, and changing its course."""

from typing import Annotated

import typer

from cli.client import connect
from cli.documents import Action, Job
from cli.failure import printable
from cli.groups import ListingGroup
from cli.options import LOCAL_URL, Collection, Json, Url, examples
from cli.render import make_console, print_jobs, print_json, rejection_line, totals_line
from cli.report import Report
from cli.totals import failure_of, totals_of

app = typer.Typer(
    cls=ListingGroup,
    help="List jobs, show one, or change its course. Alone, it lists them.",
    epilog=examples("kindred jobs", "kindred jobs follow 0a1b2c3d"),
)

JobId = Annotated[str, typer.Argument(metavar="ID", help="As `kindred jobs list` shows it.")]


@app.command("list", epilog=examples("kindred jobs list"))
def list_(collection: Collection = None, url: Url = LOCAL_URL, as_json: Json = False) -> None:
    """List the newest jobs."""
    with connect(url, collection) as client:
        jobs = client.jobs()
    if as_json:
        print_json({"jobs": jobs})
    else:
        print_jobs(make_console(), jobs)


@app.command(epilog=examples("kindred jobs show 0a1b2c3d"))
def show(
    job_id: JobId, collection: Collection = None, url: Url = LOCAL_URL, as_json: Json = False
) -> None:
    """Show how far one job has come, and why it has failed or waits."""
    with connect(url, collection) as client:
        _print_job(client.job(job_id), as_json=as_json)


@app.command(epilog=examples("kindred jobs follow 0a1b2c3d"))
def follow(
    job_id: JobId, collection: Collection = None, url: Url = LOCAL_URL, as_json: Json = False
) -> int:
    """Follow one job to its end, and print its totals."""
    from cli.ingest import follow_job

    with connect(url, collection) as client:
        return follow_job(client, client.job(job_id), Report(make_console(), as_json))


@app.command(epilog=examples("kindred jobs rejections 0a1b2c3d --json"))
def rejections(
    job_id: JobId, collection: Collection = None, url: Url = LOCAL_URL, as_json: Json = False
) -> None:
    """List every image that one job rejected, and why."""
    with connect(url, collection) as client:
        if as_json:
            print_json({"rejections": list(client.rejections(job_id))})
            return
        console = make_console()
        for rejection in client.rejections(job_id):  # printed as they come: there can be very many
            console.print(rejection_line(rejection))


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
    report.say(totals_line(totals_of([job])))
    if notice := job.get("notice"):
        report.say(printable(f"it waits: {notice}"))
    if failure := failure_of([job]):
        report.say(failure)
