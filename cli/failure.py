"""What ends a command early.

CommandError          the one line that a person gets on standard error; exit 1
├── Unreachable       the api is away for now: trying again can help
├── WrongSetting      a KINDRED_… variable cannot be used; exit 78
├── TooLarge          the request's body is above the server's limit
└── Interrupted       Ctrl-C; exit 130, as shells have it
"""

from typing import ClassVar


class CommandError(Exception):
    """`str(error)` is one line: white space is folded, so that no server's text can break it up."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class Unreachable(CommandError):
    """Nothing answers, or what answers says that a service behind it is away."""


class TooLarge(CommandError):
    """HTTP 413."""


class WrongSetting(CommandError):
    """Starting again will not help, as supervisors know by the exit code."""

    exit_code = 78  # sysexits.h: EX_CONFIG


class Interrupted(CommandError):
    """Ctrl-C while something goes on elsewhere; the message says what, and how to stop it."""

    exit_code = 130


def printable(text: str) -> str:
    """One line that cannot steer a terminal: data sets and servers choose what stands in `text`."""
    folded = " ".join(text.split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in folded)
