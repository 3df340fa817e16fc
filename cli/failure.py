"""How a command ends, and what ends it early.

CommandError          the one line that a person gets on standard error; exit 1
├── UsageError        the command was called wrongly; exit 2
├── Unreachable       the api is unavailable for now: trying again can help
├── WrongSetting      a KINDRED_… variable cannot be used; exit 78
├── BadSource         files that cannot be read, or a table that describes them
├── Missing           what is asked for is not there, or no longer
├── TooLarge          the request's body is above the server's limit
└── Interrupted       Ctrl-C; exit 130, as shells have it
"""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Distinct, so that a script can tell them apart. `kindred --help` lists them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REJECTIONS = 3  # the job is done, and some of its images were rejected
    SETTING = 78  # EX_CONFIG of sysexits.h: starting again does not help
    INTERRUPTED = 130


class CommandError(Exception):
    """`str(error)` is one line: white space is folded, so that no server's text can break it up."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class UsageError(CommandError):
    """Options or arguments that are wrong, missing, or contradict each other."""

    exit_code = ExitCode.USAGE


class Unreachable(CommandError):
    """Nothing answers, or what answers says that a service behind it is unavailable."""


class BadSource(CommandError):
    """The files themselves are at fault, or a table beside them."""


class Missing(CommandError):
    """HTTP 404."""


class TooLarge(CommandError):
    """HTTP 413."""


class WrongSetting(CommandError):
    """Starting again will not help, as supervisors know by the exit code."""

    exit_code = ExitCode.SETTING


class Interrupted(CommandError):
    """Ctrl-C while something goes on elsewhere; the message says what, and how to stop it."""

    exit_code = ExitCode.INTERRUPTED


def printable(text: str) -> str:
    """One line that cannot steer a terminal: data sets and servers choose what stands in `text`."""
    folded = " ".join(text.split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in folded)
