"""`kindred jobs`: what was asked of the system, and changing one's mind about it."""

from cli.account import account_of, failure_of
from cli.client import Client
from cli.documents import Action, Job
from cli.failure import CommandError, printable
from cli.ingest import Report
from cli.render import account_line, print_jobs, print_json, rejection_line


def list_jobs(client: Client, report: Report) -> None:
    jobs = client.jobs()
    if report.json:
        print_json({"jobs": jobs})
    else:
        print_jobs(report.console, jobs)


def show_job(client: Client, job_id: str, action: Action | None, report: Report) -> None:
    """One job, after doing to it what was asked."""
    _print_job(client.act(job_id, action) if action else client.job(job_id), report)


def list_rejections(client: Client, job_id: str, report: Report) -> None:
    """All of them, as they come: there can be very many."""
    if report.json:
        print_json({"rejections": list(client.rejections(job_id))})
        return
    for rejection in client.rejections(job_id):
        report.console.print(rejection_line(rejection))


def only_action(flags: dict[Action, bool]) -> Action | None:
    """The one that was asked for. Two contradict each other."""
    chosen = [action for action, given in flags.items() if given]
    if len(chosen) > 1:
        raise CommandError(f"--{chosen[0]} and --{chosen[1]} cannot be used together")
    return chosen[0] if chosen else None


def _print_job(job: Job, report: Report) -> None:
    if report.json:
        print_json(job)
        return
    print_jobs(report.console, [job])
    report.say(account_line(account_of([job])))
    if job.get("notice"):
        report.say(printable(f"it waits: {job['notice']}"))
    if failure := failure_of([job]):
        report.say(failure)
