"""A group of commands whose name alone lists what there is: `kindred jobs` is `jobs list`.

An id in place of a command shows that one: `kindred jobs 0a1b2c3d` is `jobs show 0a1b2c3d`.
"""

import re
from typing import Any

from typer.core import TyperGroup


class ListingGroup(TyperGroup):
    """Use as `typer.Typer(cls=ListingGroup)`, with a command `list`, and `show` where one can be
    shown."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        asks_for_help = bool(set(args[:1]) & set(ctx.help_option_names))
        names_command = bool(args) and not args[0].startswith("-")
        # A shell that completes wants the group's commands, not the options of one of them.
        if not (names_command or asks_for_help or ctx.resilient_parsing):
            args = ["list", *args]
        elif names_command and "show" in self.commands and _is_id(args[0]):
            args = ["show", *args]
        return super().parse_args(ctx, args)


def _is_id(text: str) -> bool:
    """Our own ids are hexadecimal digits, and begin with one where they could be a word."""
    return re.fullmatch("[0-9a-f-]{8,}", text) is not None
