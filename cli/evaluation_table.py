"""An evaluation's report in a terminal: each number with its interval, beside what it must beat."""

from collections.abc import Iterator

from rich.console import Console

from cli.documents import Document
from cli.failure import printable
from cli.render import Cells, print_rows

COLUMNS = {
    "precision_at_1": "P@1",
    "precision_at_5": "P@5",
    "precision_at_10": "P@10",
    "map_at_10": "mAP@10",
    "ndcg_at_10": "nDCG@10",
    "balanced_accuracy": "balanced accuracy",
}
_NUMBERS = {*COLUMNS.values(), "images", "at 1", "at 5", "at 10"}
_DEPTHS = (1, 5, 10)
_TREATMENTS = {"leave_out": "left out", "keep": "kept"}

# What a number of images of the searched one's group means.
_SAME_GROUP = {
    "recall": "of a group's other images, the share that is found",
    "any": "searches that find one of them",
}


def print_report(console: Console, report: Document) -> None:
    for line in _lines(report):
        console.print(printable(line), soft_wrap=True)
    console.print()
    print_rows(console, list(_rankings(report)), "no numbers", _NUMBERS)
    classes = list(_classes(report))
    if classes:
        console.print()
        print_rows(console, classes, "", _NUMBERS)
    if report["same_group"]:
        console.print()
        print_rows(console, list(_same_group(report["same_group"])), "", _NUMBERS)


def _lines(report: Document) -> Iterator[str]:
    yield (
        f"{report['evaluated']:,} of {report['images']:,} images searched by, "
        f"in {report['groups']:,} groups; intervals of 95 %"
    )
    if left := report["left_out"]:
        yield "left out: " + ", ".join(f"{count:,} {reason}" for reason, count in left.items())
    if found := report["near_duplicates"]:
        yield (
            f"{found['pairs']:,} pairs of near-duplicates in different groups, "
            f"{found['other_label']:,} with two labels: {_TREATMENTS[found['treatment']]}"
        )
    yield from report["notes"]


def _rankings(report: Document) -> Iterator[Cells]:
    for ranking in report["rankings"]:
        for mean in ("overall", "macro"):
            yield {"": f"{ranking['name']}, {mean}", **_metrics(ranking[mean])}


def _classes(report: Document) -> Iterator[Cells]:
    """Of the encoder's own ranking, which comes first."""
    for each in report["rankings"][0]["classes"]:
        yield {"": each["label"], "images": f"{each['images']:,}", **_metrics(each["metrics"])}


def _same_group(found: Document) -> Iterator[Cells]:
    for name, meaning in _SAME_GROUP.items():
        yield {"": meaning, **{f"at {k}": cell(found.get(f"{name}_at_{k}")) for k in _DEPTHS}}


def _metrics(found: Document) -> dict[str, str]:
    return {column: cell(found.get(name)) for name, column in COLUMNS.items()}


def cell(found: Document | None) -> str:
    """`0.456 (0.430 to 0.481)`."""
    if found is None or found["value"] is None:
        return ""
    value = f"{found['value']:.3f}"
    return value if found["low"] is None else f"{value} ({found['low']:.3f} to {found['high']:.3f})"
