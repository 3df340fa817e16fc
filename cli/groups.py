"""A group of commands whose name alone lists what there is: `kindred jobs` is `jobs list`."""

from typing import Any

from typer.core import TyperGroup


class ListingGroup(TyperGroup):
    """Use as `typer.Typer(cls=ListingGroup)`, with a command `list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        asks_for_help = bool(set(args[:1]) & set(ctx.help_option_names))
        names_command = bool(args) and not args[0].startswith("-")
        # A shell that completes wants the group's commands, not the options of one of them.
        if not (names_command or asks_for_help or ctx.resilient_parsing):
            args = ["list", *args]
        return super().parse_args(ctx, args)
