"""`kindred deidentify-report` and `kindred pseudonyms`: the proof, and the key of the hashes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.client import connect
from cli.failure import CommandError, UsageError
from cli.options import LOCAL_URL, Collection, Json, Url, examples
from cli.render import make_console, print_json, print_rows

app = typer.Typer()
pseudonyms = typer.Typer(
    help="The key under which identifiers of DICOM files are hashed.",
    epilog=examples("kindred pseudonyms rotate"),
)


@app.command(
    "deidentify-report",
    epilog=examples(
        "kindred deidentify-report 0a1b2c3d",
        "kindred deidentify-report 0a1b2c3d --folder /srv/scans",
    ),
)
def report(
    job: Annotated[str, typer.Argument(metavar="JOB", help="As `kindred jobs list` shows it.")],
    folder: Annotated[
        Path | None,
        typer.Option(help="Find the files there that the job rejected or skipped; for admins."),
    ] = None,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Show what a job kept of its DICOM files and what it dropped, by name and number."""
    from cli.deidentification import find_files, report_lines

    with connect(url, collection) as client:
        if folder is not None:
            found = find_files(client, job, folder)
            if as_json:
                print_json({"files": [{"listed": name, "file": path} for name, path in found]})
            else:
                rows = [{"listed as": name, "file": path} for name, path in found]
                print_rows(make_console(), rows, "none of the listed files is there")
            return
        shown = client.deidentification(job)
    if as_json:
        print_json(shown)
    else:
        typer.echo("\n".join(report_lines(shown)))


@pseudonyms.command(epilog=examples("kindred pseudonyms rotate", "kindred pseudonyms rotate --yes"))
def rotate(
    yes: Annotated[bool, typer.Option("--yes", help="Rotate without a question.")] = False,
    collection: Collection = None,
    url: Url = LOCAL_URL,
    as_json: Json = False,
) -> None:
    """Draw a new key: what comes from now on is hashed under it, and older images stay known."""
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody can confirm here: add --yes to rotate without a question")
        if not typer.confirm("Draw a new key? New images of a patient then have another hash"):
            raise CommandError("nothing was changed")
    with connect(url, collection) as client:
        done = client.rotate_pseudonyms()
    if as_json:
        print_json(done)
    else:
        typer.echo(f"a new key was drawn; there are {done['keys']:,}, of which the newest is used")
