"""`kindred keys`: who may call the api. It works on the data folder, which the api watches."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.failure import UsageError
from cli.groups import ListingGroup
from cli.options import Data, Json, examples
from cli.render import make_console, print_json, print_rows

if TYPE_CHECKING:
    from pipeline.base.keys import Key, KeyFile

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
    from pipeline.base.keys import ROLES

    if role not in ROLES:
        raise UsageError(f"--role is one of {', '.join(ROLES)}")
    if not (name.strip() and name.isprintable() and len(name) <= 100):
        raise UsageError("NAME is one line of up to 100 characters")
    key, text = _file(data).create(name.strip(), role, expires)
    typer.echo(text)
    typer.echo(f"key {key.id} for {key.name}, role {key.role}; it is not shown again", err=True)


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
