"""Options that several commands share, and the examples below each command's help."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cli.documents import Document
from cli.failure import UsageError

LOCAL_URL = "http://127.0.0.1:8000"

Url = Annotated[
    str, typer.Option("--url", envvar="KINDRED_URL", help="Address of the api.", metavar="URL")
]
Collection = Annotated[
    str | None,
    typer.Option(
        "--collection",
        envvar="KINDRED_COLLECTION",
        metavar="NAME",
        help="The collection; without it, the api's default one.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Filter = Annotated[
    str | None, typer.Option("--filter", metavar="JSON", help="A filter in Qdrant's JSON.")
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the system's data; default KINDRED_DATA."),
]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]


def examples(*commands: str) -> str:
    """An epilog whose lines stay as they are (\\b), so that each can be copied."""
    return "\n".join(("\b", "Examples:" if len(commands) > 1 else "Example:", *commands))


def parse_filter(text: str | None) -> Document | None:
    """The value of --filter. Raises UsageError unless it is a JSON object."""
    if text is None:
        return None
    try:
        filter_ = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--filter is not JSON: {error}") from error
    if not isinstance(filter_, dict):
        raise UsageError('--filter is not a JSON object, as in {"must": [ … ]}')
    return filter_
