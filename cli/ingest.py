"""`kindred ingest`: start jobs, follow them, and end with their account."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console

from cli.account import account_of, failure_of
from cli.client import Client
from cli.documents import Document, Job, Rejection
from cli.failure import CommandError, Interrupted
from cli.follow import display, follow
from cli.render import account_line, print_json, print_rejections
from cli.source import resolve_source
from cli.upload import Upload, local_images
from pipeline.base.addresses import is_loopback


@dataclass(frozen=True)
class Report:
    """How a command speaks: to a person on `console`, or with one JSON document."""

    console: Console
    json: bool

    def say(self, line: str) -> None:
        if not self.json:
            self.console.print(line, soft_wrap=True)


def ingest_dataset(
    client: Client, source: str, options: Document, report: Report, *, detach: bool
) -> None:
    """One job for a data set or a folder that the workers can see."""
    dataset = resolve_source(source, same_machine=is_loopback(client.host))
    given = {name: value for name, value in options.items() if value is not None}
    job = client.submit({"dataset": dataset, **given})
    if detach:
        _announce([job], report, job)
    else:
        follow_job(client, job, report)


def follow_job(client: Client, job: Job, report: Report) -> None:
    """To the end of one job, and its account."""
    (job,) = _follow(client, [job], report)
    _conclude([job], report, job, client.rejections(job["id"]))


def ingest_upload(
    client: Client, sources: Sequence[str], limit: int | None, report: Report, *, detach: bool
) -> None:
    """Local files through the api: as many jobs as it takes, and one account."""
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
    document = account_of(jobs, len(upload.refused)).document(jobs)
    if detach:
        _announce(jobs, report, document)
    else:
        _conclude(jobs, report, document, upload.rejections(), upload.refused)


def _half_way(upload: Upload, images: int, what: str) -> str:
    if not upload.sent:
        return what
    return (
        f"{what}; {upload.sent:,} of {images:,} files were sent and are being embedded:"
        " sending all of them again embeds none twice"
    )


def _announce(jobs: Sequence[Job], report: Report, document: object) -> None:
    if report.json:
        print_json(document)
    for job in jobs:
        report.say(f"job {job['id']}; follow it with: kindred jobs {job['id']} --follow")


def _follow(client: Client, jobs: Sequence[Job], report: Report) -> list[Job]:
    try:
        with display(report.console, quiet=report.json) as show:
            return follow(client, jobs, show)
    except KeyboardInterrupt as stop:
        raise Interrupted(_goes_on([job["id"] for job in jobs])) from stop


def _goes_on(ids: Sequence[str]) -> str:
    if len(ids) > 1:
        return f"{len(ids)} jobs go on; look at them with `kindred jobs`"
    return (
        f"job {ids[0]} goes on; look at it with `kindred jobs {ids[0]}`,"
        f" end it with `kindred jobs {ids[0]} --cancel`"
    )


def _conclude(
    jobs: Sequence[Job],
    report: Report,
    document: object,
    rejections: Iterator[Rejection],
    refused: Sequence[Rejection] = (),
) -> None:
    """The account, then why it is not whole: a job that was lost makes the command fail."""
    account = account_of(jobs, len(refused))
    if report.json:
        print_json(document)
    else:
        report.say(account_line(account))
        if account.rejected:
            see_all = f"kindred jobs {jobs[0]['id']} --rejections" if len(jobs) == 1 else None
            print_rejections(report.console, rejections, account.rejected, see_all)
    if failure := failure_of(jobs):
        raise CommandError(failure)
