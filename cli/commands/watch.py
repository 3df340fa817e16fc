"""`kindred watch`: whatever comes into a folder is ingested, once."""

import signal
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.client import Client, connect
from cli.documents import Document
from cli.failure import ExitCode, UsageError
from cli.options import LOCAL_URL, Collection, Data, Url, examples
from cli.render import make_console
from cli.report import Report

if TYPE_CHECKING:
    from cli.watch.sending import Sending
    from cli.watch.watcher import Watcher
    from pipeline.sources.folder.survey import Rules

app = typer.Typer()

Patterns = list[str] | None


@app.command(
    epilog=examples(
        "kindred watch /srv/incoming",
        "kindred watch /mnt/scanner --after leave --upload --url https://kindred.example",
        "kindred watch /srv/incoming --once",
    )
)
def watch(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder.")],
    after: Annotated[
        str, typer.Option(help="Then move files to its done and failed, or leave them there.")
    ] = "move",
    upload: Annotated[bool, typer.Option("--upload", help="Send files through the api.")] = False,
    once: Annotated[
        bool, typer.Option("--once", help="End when all that is complete is done, as for cron.")
    ] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 10,
    settle: Annotated[
        float, typer.Option(min=0, help="Seconds that a file must not have changed.")
    ] = 10,
    include: Annotated[
        Patterns,
        typer.Option(metavar="PATTERN", help="Only files that fit it, as *.jpg; repeat it."),
    ] = None,
    exclude: Annotated[
        Patterns, typer.Option(metavar="PATTERN", help="No files that fit it; repeat it.")
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="Field of the images' ids.")] = None,
    label_from_folder: Annotated[
        bool, typer.Option("--label-from-folder", help="A picture's folder is its label.")
    ] = False,
    replace_metadata: Annotated[
        bool,
        typer.Option("--replace-metadata", help="Remove what is known and not mentioned now."),
    ] = False,
    state: Annotated[
        Path | None, typer.Option(help="File of what was seen; else in the data folder.")
    ] = None,
    data: Data = None,
    collection: Collection = None,
    url: Url = LOCAL_URL,
) -> int:
    """Ingest whatever comes into a folder, each file once, until it is stopped."""
    from cli.supervisor import Stop
    from cli.watch.looking import Settling
    from cli.watch.state import State
    from cli.watch.watcher import Watcher, check, run, run_once
    from pipeline.base.identity import ID_COLUMNS
    from pipeline.sources.folder.survey import Rules

    if after not in ("move", "leave"):
        raise UsageError("--after is move or leave")
    root, moves = folder.expanduser().resolve(), after == "move"
    rules = Rules(
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        label_from_folder=label_from_folder,
        id_fields=(id_column,) if id_column else ID_COLUMNS,
        partial=True,
    )
    options: Document = {"replace_metadata": True} if replace_metadata else {}
    say = Report(make_console(), json=False).say
    of = f"{root}\0{collection or ''}"
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # see `is_being_written`
    with Stop() as stop, connect(url, collection) as client:

        def stopping() -> None:
            if stop.requests:
                raise _Stopped

        check(root, moves=moves)
        known = State(state or _default_state(data, of), of)
        send = _sending(client, root, rules, options, stopping, upload=upload)
        watcher = Watcher(client, root, known, send, Settling(settle), rules.want, say, moves)
        return _watch(
            watcher, lambda: run_once(watcher, stopping) if once else run(watcher, stopping, every)
        )


class _Stopped(Exception):
    """A signal asked for the end."""


def _watch(watcher: "Watcher", go: Callable[[], None]) -> int:
    try:
        go()
    except _Stopped:
        left = len(watcher.state.batches)
        watcher.say(f"stopped; {left} jobs go on, and the next start puts their files away")
    finally:
        watcher.state.close()
    return ExitCode.REJECTIONS if watcher.failed else ExitCode.DONE


def _sending(
    client: Client,
    root: Path,
    rules: "Rules",
    options: Document,
    stopping: Callable[[], None],
    *,
    upload: bool,
) -> "Sending":
    from cli.upload import Selection
    from cli.watch.sending import ByPath, BySending
    from pipeline.base.identity import ID_COLUMNS

    named = None if rules.id_fields == ID_COLUMNS else rules.id_fields[0]
    if upload:
        return BySending(
            client, root, Selection([str(root)], rules, id_field=named), options, stopping
        )
    fields = {
        "include": rules.include,
        "exclude": rules.exclude,
        "label_from_folder": rules.label_from_folder,
        "id_column": named,
    }
    return ByPath(client, root, {name: value for name, value in fields.items() if value}, options)


def _default_state(data: Path | None, of: str) -> Path:
    from cli.up import load_settings

    name = blake2b(of.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    return load_settings(data).data / "watch" / f"{name}.sqlite"
