"""`kindred ingest`: start jobs, follow them, and end with their totals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cli.client import Client
from cli.documents import Document, Job, Rejection
from cli.drift import brought, drift_lines
from cli.failure import CommandError, ExitCode, Interrupted
from cli.follow import display, follow
from cli.render import print_json, print_rejections, skipped_line, totals_line
from cli.report import Report
from cli.totals import Totals, failure_of, totals_of
from cli.upload import Selection, Upload


@dataclass(frozen=True)
class Course:
    """How a command goes on: whether it waits for the end, and whether a rejection is a failure."""

    detach: bool = False
    strict: bool = False


def ingest_source(
    client: Client, source: Document, options: Document, report: Report, course: Course
) -> ExitCode:
    """One job for a source that the workers can see. Fields that are None are not sent."""
    given = {name: value for name, value in source.items() if value is not None}
    job = client.submit(given, options)
    if course.detach:
        return _announce([job], report, job)
    return follow_job(client, job, report, strict=course.strict)


def follow_job(client: Client, job: Job, report: Report, *, strict: bool = False) -> ExitCode:
    """To the end of one job, and its totals."""
    (job,) = _follow(client, [job], report)
    return _conclude(client, [job], report, job, client.rejections(job["id"]), strict=strict)


def ingest_upload(
    client: Client, selection: Selection, options: Document, report: Report, course: Course
) -> ExitCode:
    """Local files through the api: as many jobs as it takes, and the totals of all of them."""
    upload = Upload(client, options)
    try:
        with display(report.console, quiet=report.json) as show:
            upload.send(selection, show)
    except KeyboardInterrupt as stop:
        raise Interrupted(_half_way(upload, "interrupted")) from stop
    except CommandError as error:
        raise type(error)(_half_way(upload, str(error))) from error
    jobs = upload.jobs if course.detach else _follow(client, upload.jobs, report)
    document = totals_of(jobs).document(jobs)
    if course.detach:
        return _announce(jobs, report, document)
    rejections = (each for job in jobs for each in client.rejections(job["id"]))
    return _conclude(client, jobs, report, document, rejections, strict=course.strict)


def _half_way(upload: Upload, what: str) -> str:
    if not upload.sent:
        return what
    return (
        f"{what}; {upload.sent:,} files were sent and are being embedded:"
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
    client: Client,
    jobs: Sequence[Job],
    report: Report,
    document: object,
    rejections: Iterator[Rejection],
    *,
    strict: bool,
) -> ExitCode:
    """The totals, then why they are incomplete: a job that was lost makes the command fail."""
    totals = totals_of(jobs)
    if report.json:
        print_json(document)
    else:
        report.say(totals_line(totals))
        if line := skipped_line(totals):
            report.say(line)
        _show_rejections(jobs, report, totals, rejections)
        for line in drift_lines(client, brought(jobs)):
            report.say(line)
    if failure := failure_of(jobs):
        raise CommandError(failure)
    if strict and totals.rejected:
        raise CommandError(f"{totals.rejected:,} rejected, which --strict does not allow")
    return ExitCode.REJECTIONS if totals.rejected else ExitCode.DONE


def _show_rejections(
    jobs: Sequence[Job], report: Report, totals: Totals, rejections: Iterator[Rejection]
) -> None:
    if totals.rejected:
        see_all = f"kindred jobs rejections {jobs[0]['id']}" if len(jobs) == 1 else None
        print_rejections(report.console, rejections, totals.rejected, see_all)
