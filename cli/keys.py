"""`kindred keys`: who may call the api. It works on the data folder, which the api watches."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.failure import CommandError
from cli.render import make_console, print_json, print_rows

if TYPE_CHECKING:
    from pipeline.base.keys import Key, KeyFile

app = typer.Typer(help="Make, list and revoke the keys of the api.", no_args_is_help=True)

Data = Annotated[
    Path | None, typer.Option("--data", help="Folder of the system; default KINDRED_DATA.")
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is, as the audit log will say.")],
    role: Annotated[str, typer.Option(help="search, ingest (and search) or admin (all).")],
    expires: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0, help="Valid for so long; else for ever.")
    ] = None,
    data: Data = None,
) -> None:
    """Make a key and print it: this once, since only a hash of it is kept."""
    from pipeline.base.keys import ROLES

    if role not in ROLES:
        raise CommandError(f"--role is one of {', '.join(ROLES)}")
    if not (name.strip() and name.isprintable() and len(name) <= 100):
        raise CommandError("NAME is one line of up to 100 characters")
    key, text = _file(data).create(name.strip(), role, expires)
    typer.echo(text)
    typer.echo(f"key {key.id} for {key.name}, role {key.role}; it is not shown again", err=True)


@app.command("list")
def list_(
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
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


@app.command()
def revoke(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="As `kindred keys list` has it.")],
    data: Data = None,
) -> None:
    """End a key, and the sessions that were opened with it. It takes hold at once."""
    key = _file(data).revoke(identifier)
    typer.echo(f"key {key.id} of {key.name} is revoked")


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
