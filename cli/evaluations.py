"""`kindred evaluate`: starts an evaluation, follows it to its end, and prints its report."""

from cli.client import Client
from cli.documents import Document, Evaluation
from cli.evaluation_table import print_report
from cli.failure import CommandError, Interrupted, UsageError
from cli.follow import Fetch, display
from cli.follow import follow as follow_jobs
from cli.render import print_json
from cli.report import Report
from cli.totals import failure_of


def make_request(
    label: str | None, group: str | None, sample: int | None, filter_: Document | None
) -> Document:
    """The JSON of an evaluation."""
    if label is None:
        raise UsageError("say what similar images should share: --label FIELD, as in --label dx")
    wanted = {"label": label, "group": group, "sample": sample, "filter": filter_}
    return {name: value for name, value in wanted.items() if value is not None}


def evaluate(client: Client, wanted: Document, report: Report) -> None:
    """Returns when it has succeeded, and is printed."""
    follow(client, client.evaluate(wanted), report)


def follow(client: Client, started: Evaluation, report: Report) -> None:
    _print(follow_to_end(client.evaluation, started, report), report)


def follow_to_end(fetch: Fetch[Evaluation], started: Evaluation, report: Report) -> Evaluation:
    """Raises CommandError unless it succeeds."""
    try:
        with display(report.console, quiet=report.json) as display_:
            (done,) = follow_jobs(fetch, [started], display_)
    except KeyboardInterrupt as stop:
        how = f"`kindred jobs cancel {started['id']}` ends it"
        raise Interrupted(f"evaluation {started['id']} goes on; {how}") from stop
    if done["state"] != "succeeded":
        raise CommandError(failure_of([done], "evaluation") or f"it ended as {done['state']}")
    return done


def _print(done: Evaluation, report: Report) -> None:
    found = done.get("report")
    if found is None:
        raise CommandError("its report is gone: evaluate again")
    if report.json:
        print_json(found)
        return
    print_report(report.console, found)
