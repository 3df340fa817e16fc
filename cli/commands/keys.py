"""`kindred keys`: who may call the api. It works on the data folder, which the api watches."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.failure import CommandError, UsageError
from cli.groups import ListingGroup
from cli.options import Data, Json, examples
from cli.render import make_console, print_json, print_rows

if TYPE_CHECKING:
    from pipeline.base.keys import Key, KeyFile
    from pipeline.base.settings import Settings

app = typer.Typer(
    cls=ListingGroup,
    help="Create, list and revoke the keys of the api. Alone, it lists them.",
    epilog=examples("kindred keys", "kindred keys create 'ward 3' --role search"),
)


@app.command(epilog=examples("kindred keys create 'night import' --role ingest --expires 90"))
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, for the audit log.")],
    role: Annotated[str, typer.Option(help="search, ingest (and search) or admin (all).")],
    expires: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0, help="Valid for so many days; else for ever."),
    ] = None,
    data: Data = None,
) -> None:
    """Create a key and print it: this once, since only a hash of it is stored."""
    from cli.up import load_settings
    from pipeline.base.keys import ROLES, KeyFile, Keys

    if role not in ROLES:
        raise UsageError(f"--role is one of {', '.join(ROLES)}")
    if not (name.strip() and name.isprintable() and len(name) <= 100):
        raise UsageError("NAME is one line of up to 100 characters")
    settings = load_settings(data)
    _ask_where_nothing_runs(settings)
    first = not Keys.of(settings.keys_file, settings.api_keys).needed
    key, text = KeyFile(settings.keys_file).create(name.strip(), role, expires)
    typer.echo(text)
    typer.echo(
        f"key {key.id} for {key.name}, role {key.role}, is in {settings.keys_file}; it is not"
        " shown again",
        err=True,
    )
    if first:
        typer.echo(_what_changes(settings), err=True)


@app.command("list", epilog=examples("kindred keys list"))
def list_(data: Data = None, as_json: Json = False) -> None:
    """List all keys, the revoked ones too: the audit log names them by their ids."""
    keys = _file(data).read()
    if as_json:
        print_json({"keys": [key.model_dump(mode="json", exclude={"sha256"}) for key in keys]})
        return
    rows = [
        {"id": k.id, "name": k.name, "role": k.role, "made": _day(k.created), "state": _state(k)}
        for k in keys
    ]
    print_rows(make_console(), rows, "no keys yet")


@app.command(epilog=examples("kindred keys revoke 0a1b2c3d"))
def revoke(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="As `kindred keys list` shows.")],
    data: Data = None,
) -> None:
    """End a key, and the sessions that were opened with it. It holds at once."""
    key = _file(data).revoke(identifier)
    typer.echo(f"key {key.id} of {key.name} is revoked")


def _ask_where_nothing_runs(settings: "Settings") -> None:
    """The folder is a relative one by default, so it is easily another one than that of the system.

    A system with a Redis of its own is not to be seen from here. Raises CommandError for a no.
    """
    from cli.preflight import runs

    unseen = "redis_url" in settings.model_fields_set or not sys.stdin.isatty()
    if unseen or runs(settings.data):
        return
    if not typer.confirm(f"Nothing runs in {settings.data}. Create the key there?", err=True):
        raise CommandError("no key was created; --data names another folder")


def _what_changes(settings: "Settings") -> str:
    change = "It is the first: from now on every call needs a key, and the page asks for one."
    if "sources" in settings.model_fields_set:
        return change
    return (
        f"{change} After the next start, only data sets of the hub may be ingested, unless"
        " KINDRED_SOURCES names folders; jobs that were accepted before go on."
    )


def _file(data: Path | None) -> "KeyFile":
    from cli.up import load_settings
    from pipeline.base.keys import KeyFile

    return KeyFile(load_settings(data).keys_file)


def _state(key: "Key") -> str:
    if key.revoked is not None:
        return f"revoked {_day(key.revoked)}"
    if key.expires is None:
        return "valid"
    past = key.expires <= datetime.now(UTC)
    return f"expired {_day(key.expires)}" if past else f"valid until {_day(key.expires)}"


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d}"
