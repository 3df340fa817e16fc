"""`kindred ingest`: start jobs, follow them, and end with their totals."""

from collections.abc import Iterator, Sequence

from cli.client import Client
from cli.documents import Document, Job, Rejection
from cli.failure import CommandError, ExitCode, Interrupted
from cli.follow import display, follow
from cli.render import print_json, print_rejections, totals_line
from cli.report import Report
from cli.totals import Totals, failure_of, totals_of
from cli.upload import Upload, local_images


def ingest_source(client: Client, source: Document, report: Report, *, detach: bool) -> ExitCode:
    """One job for a source that the workers can see. Fields that are None are not sent."""
    given = {name: value for name, value in source.items() if value is not None}
    job = client.submit(given)
    return _announce([job], report, job) if detach else follow_job(client, job, report)


def follow_job(client: Client, job: Job, report: Report) -> ExitCode:
    """To the end of one job, and its totals."""
    (job,) = _follow(client, [job], report)
    return _conclude([job], report, job, client.rejections(job["id"]))


def ingest_upload(
    client: Client, sources: Sequence[str], limit: int | None, report: Report, *, detach: bool
) -> ExitCode:
    """Local files through the api: as many jobs as it takes, and the totals of all of them."""
    images = local_images(sources, limit)
    upload = Upload(client)
    try:
        with display(report.console, quiet=report.json) as show:
            upload.send(images, show)
    except KeyboardInterrupt as stop:
        raise Interrupted(_half_way(upload, len(images), "interrupted")) from stop
    except CommandError as error:
        raise type(error)(_half_way(upload, len(images), str(error))) from error
    jobs = upload.jobs if detach else _follow(client, upload.jobs, report)
    document = totals_of(jobs, len(upload.refused)).document(jobs)
    if detach:
        return _announce(jobs, report, document)
    return _conclude(jobs, report, document, upload.rejections(), upload.refused)


def _half_way(upload: Upload, images: int, what: str) -> str:
    if not upload.sent:
        return what
    return (
        f"{what}; {upload.sent:,} of {images:,} files were sent and are being embedded:"
        " sending all of them again embeds none twice"
    )


def _announce(jobs: Sequence[Job], report: Report, document: object) -> ExitCode:
    if report.json:
        print_json(document)
    for job in jobs:
        report.say(f"job {job['id']}; follow it with: kindred jobs follow {job['id']}")
    return ExitCode.DONE


def _follow(client: Client, jobs: Sequence[Job], report: Report) -> list[Job]:
    try:
        with display(report.console, quiet=report.json) as show:
            return follow(client.job, jobs, show)
    except KeyboardInterrupt as stop:
        raise Interrupted(_goes_on([job["id"] for job in jobs])) from stop


def _goes_on(ids: Sequence[str]) -> str:
    if len(ids) > 1:
        return f"{len(ids)} jobs go on; `kindred jobs list` shows them"
    return (
        f"job {ids[0]} goes on; `kindred jobs show {ids[0]}` says how far it has come,"
        f" `kindred jobs cancel {ids[0]}` ends it"
    )


def _conclude(
    jobs: Sequence[Job],
    report: Report,
    document: object,
    rejections: Iterator[Rejection],
    refused: Sequence[Rejection] = (),
) -> ExitCode:
    """The totals, then why they are incomplete: a job that was lost makes the command fail."""
    totals = totals_of(jobs, len(refused))
    if report.json:
        print_json(document)
    else:
        report.say(totals_line(totals))
        _show_rejections(jobs, report, totals, rejections)
    if failure := failure_of(jobs):
        raise CommandError(failure)
    return ExitCode.REJECTIONS if totals.rejected else ExitCode.DONE


def _show_rejections(
    jobs: Sequence[Job], report: Report, totals: Totals, rejections: Iterator[Rejection]
) -> None:
    if totals.rejected:
        see_all = f"kindred jobs rejections {jobs[0]['id']}" if len(jobs) == 1 else None
        print_rejections(report.console, rejections, totals.rejected, see_all)
