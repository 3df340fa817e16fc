"""DCMTK's tools, the most widespread peer: `echoscu`, `storescu` and others of Debian's dcmtk."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.system import PATIENCE


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        missing = f"no {name} on this machine: Debian's package is dcmtk"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return found


def run(name: str, *arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
    """Its output, errors with it, is text."""
    command = [tool(name), *map(str, arguments)]
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=PATIENCE,
        check=False,
    )


def echo(port: int, *options: str | Path, called: str = "KINDRED", calling: str = "TESTS") -> bool:
    titles = ("-aec", called, "-aet", calling)
    return run("echoscu", *titles, *options, "127.0.0.1", port).returncode == 0


def send(
    port: int, files: Sequence[Path], *options: str | Path, calling: str = "TESTS"
) -> tuple[list[Path], str]:
    """The files that were answered with success, and all that `storescu` said."""
    titles = ("-aec", "KINDRED", "-aet", calling)
    said = run("storescu", "-v", "-R", *titles, *options, "127.0.0.1", port, *files).stdout
    stored: list[Path] = []
    current: Path | None = None
    for line in said.splitlines():
        if name := re.match(r"I: Sending file: (.*)", line):
            current = Path(name[1])
        elif "Received Store Response (Success)" in line and current is not None:
            stored.append(current)
            current = None
    return stored, said
