"""`kindred`: its groups of commands, put together, and how each command ends."""

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from cli.commands import (
    backup,
    collections,
    deidentification,
    deletion,
    dicom,
    evaluation,
    explain,
    images,
    ingest,
    jobs,
    keys,
    label_audit,
    quarantine,
    search,
    system,
    watch,
)
from cli.failure import CommandError, ExitCode, printable
from cli.options import examples
from pipeline.base.errors import KindredError

# "\b" keeps the lines of a paragraph as they are.
EXIT_CODES = """\b
Exit codes:
  0    done
  1    failed
  2    wrong usage: what an option or argument says, or that it is missing
  3    done, but some images were rejected (ingest, jobs follow)
  78   a KINDRED_… variable cannot be used (up, worker, api, dicom, keys, restore)
  130  interrupted"""

app = typer.Typer(
    help="Similar-case image search.",
    epilog=f"{examples('kindred up', 'kindred ingest --help')}\n\n{EXIT_CODES}",
    pretty_exceptions_enable=False,
    # Rich would take brackets in a help text for its markup, and break examples at its frames.
    rich_markup_mode=None,
)
COMMANDS = (
    system.app,
    ingest.app,
    watch.app,
    search.app,
    evaluation.app,
    label_audit.app,
    explain.app,
    deletion.app,
    backup.app,
    deidentification.app,
)
for commands in COMMANDS:
    app.add_typer(commands)
app.add_typer(jobs.app, name="jobs")
app.add_typer(images.app, name="images")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(collections.app, name="collections")
app.add_typer(keys.app, name="keys")
app.add_typer(deidentification.pseudonyms, name="pseudonyms")
app.add_typer(dicom.app, name="dicom")


def _print_version(given: bool) -> None:
    if given:
        from importlib.metadata import version

        typer.echo(f"kindred {version('kindred')}")
        raise typer.Exit


@app.callback()
def kindred(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Similar-case image search."""


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code. Whatever goes wrong is one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _print_anything()
    try:
        return app(args=given or ["--help"], prog_name="kindred", standalone_mode=False) or 0
    except CommandError as error:
        return _fail(str(error), error.exit_code)
    except KindredError as error:  # of the data folder, which some commands read themselves
        return _fail(str(error), ExitCode.FAILED)
    except TyperException as error:  # an unknown option, a value that is no number
        return _fail(f"{error.format_message()} (see kindred --help)", error.exit_code)
    except typer.Abort:  # Ctrl-C, or the end of the input, where a question was put
        return _fail("interrupted", ExitCode.INTERRUPTED)
    except BrokenPipeError:  # `kindred images | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED


def _print_anything() -> None:
    """A terminal that knows no ä shows it as \\xe4: names of files must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(line: str, code: int) -> int:
    typer.echo(f"kindred: {printable(line)}", err=True)
    return code


def main() -> NoReturn:
    sys.exit(run())
