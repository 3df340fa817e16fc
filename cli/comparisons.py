"""`kindred evaluate --model A --model B`: compares encoders, and prints how they differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cli import evaluations
from cli.client import Client
from cli.documents import Document, Evaluation
from cli.evaluation_table import COLUMNS, cell
from cli.evaluations import follow_to_end
from cli.failure import CommandError, Missing, UsageError
from cli.render import print_json, print_rows
from cli.report import Report

_OPTIONS = ("revision", "pooling", "preprocessing")


def make_request(wanted: Document, models: Sequence[str]) -> Document:
    """The JSON of a comparison, from that of an evaluation."""
    if len(models) < 2:
        raise UsageError("name two encoders or more: --model collection --model NAME")
    kept = {name: value for name, value in wanted.items() if name != "baseline"}
    return {**kept, "models": [_choice(each) for each in models]}


def _choice(spelled: str) -> Document:
    """From NAME,pooling=mean,preprocessing=crop. A folder of this machine gets its whole path."""
    name, *options = spelled.split(",")
    path = Path(name).expanduser()
    choice = {"model": str(path.resolve()) if path.is_dir() else name}
    for option in options:
        key, is_given, value = option.partition("=")
        if key not in _OPTIONS or not is_given:
            raise UsageError(f"an encoder's options are {', '.join(_OPTIONS)}: pooling=mean")
        choice[key] = value
    return choice


def compare(client: Client, wanted: Document, report: Report) -> None:
    """Returns when it has succeeded, and is printed."""
    follow(client, client.compare(wanted), report)


def show(client: Client, identifier: str, report: Report) -> None:
    """An earlier evaluation or comparison; it is followed if it still runs."""
    try:
        evaluations.follow(client, client.evaluation(identifier), report)
    except Missing as missing:
        try:
            started = client.comparison(identifier)
        except Missing:
            raise missing from None
        follow(client, started, report)


def follow(client: Client, started: Evaluation, report: Report) -> None:
    done = follow_to_end(client.comparison, started, report)
    found = done.get("report")
    if found is None:
        raise CommandError("its report is gone: compare again")
    if report.json:
        print_json(found)
        return
    columns = set(COLUMNS.values())
    print_rows(report.console, [_about(each) for each in found["models"]], "no encoders", set())
    for which in ("overall", "macro"):
        rows = [_metrics(each, which) for each in found["models"]]
        rows += [row for pair in found["pairs"] for row in _difference(pair, which)]
        print_rows(report.console, rows, "no numbers", columns)
    for note in found["notes"]:
        report.console.print(note, style="dim")


def _about(model: Document) -> dict[str, str]:
    speed = model["images_per_second"]
    return {
        "encoder": model["name"] + (" (untrained)" if model["untrained"] else ""),
        "images/s": "stored" if speed is None else f"{speed:.1f}",
        "dimensions": str(model["encoder"]["dimensions"]),
        "weights": f"{model['weights_bytes'] / 1e6:.1f} MB",
        "pooling": model["encoder"]["pooling"],
    }


def _metrics(model: Document, which: str) -> dict[str, str]:
    found = model["ranking"][which]
    return {which: model["name"], **{COLUMNS[m]: cell(found[m]) for m in COLUMNS if m in found}}


def _difference(pair: Document, which: str) -> list[dict[str, str]]:
    """How much better the other is, and how often chance alone makes such a difference."""
    found = pair[which]
    known = [metric for metric in COLUMNS if metric in found]
    return [
        {which: f"  {pair['other']}, less {pair['first']}"}
        | {COLUMNS[metric]: _signed(found[metric]) for metric in known},
        {which: "  p"} | {COLUMNS[metric]: f"{found[metric]['p']:.4f}" for metric in known},
    ]


def _signed(found: Any) -> str:
    """`+0.021 (+0.004 to +0.038)`."""
    return f"{found['value']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"
