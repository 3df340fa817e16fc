"""How a command speaks: to a person, or to a program."""

from dataclasses import dataclass

from rich.console import Console


@dataclass(frozen=True)
class Report:
    """Lines for a person on `console`, or with `json` one JSON document and nothing else."""

    console: Console
    json: bool

    def say(self, line: str) -> None:
        if not self.json:
            self.console.print(line, soft_wrap=True)
