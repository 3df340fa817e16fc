"""`kindred audit-labels`: starts an audit, follows it, and lists or exports its findings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cli.client import Client
from cli.csv_file import write_csv
from cli.documents import Document
from cli.failure import CommandError, Interrupted, UsageError, printable
from cli.follow import display, follow
from cli.render import print_json, print_rows
from cli.report import Report
from cli.totals import failure_of

FIRST = 20  # findings of each kind that are printed

KINDS = {
    "conflicting_copies": "copies of one picture with different labels",
    "unlike_neighbours": "images whose neighbours all have another label",
    "copies": "copies of one picture under several ids",
}

COLUMNS = (
    "kind", "rank", "image_id", "label", "group", "other_image_id", "other_label", "other_group",
    "suggested_label", "evidence", "same_bytes", "hash_distance", "neighbour_ids",
    "neighbour_labels", "neighbour_similarities", "state", "decided_by", "decided_at", "id",
)  # fmt: skip


def make_request(
    label: str | None, group: str | None, sample: int | None, filter_: Document | None
) -> Document:
    """The JSON of an audit."""
    if label is None:
        raise UsageError("say which field to audit: --label FIELD, as in --label dx")
    wanted = {"label": label, "group": group, "sample": sample, "filter": filter_}
    return {name: value for name, value in wanted.items() if value is not None}


def audit(client: Client, wanted: Document, csv: Path | None, report: Report) -> None:
    """Returns when it has succeeded, and is printed or written."""
    started = client.post("label-audits", body=wanted)["job"]
    try:
        with display(report.console, quiet=report.json) as show_:
            (done,) = follow(client.job, [started], show_)
    except KeyboardInterrupt as stop:
        how = f"`kindred jobs cancel {started['id']}` ends it"
        raise Interrupted(f"label audit {started['id']} goes on; {how}") from stop
    if done["state"] != "succeeded":
        raise CommandError(failure_of([done], "label audit") or f"it ended as {done['state']}")
    show(client, started["id"], csv, report)


def show(client: Client, audit_id: str, csv: Path | None, report: Report) -> None:
    """Its findings, the strongest of each kind."""
    found = client.get("label-audits", audit_id)
    if found["report"] is None:
        raise CommandError(f"label audit {audit_id} has no findings: it is {found['job']['state']}")
    if csv is not None:
        count = write_csv(csv, COLUMNS, map(_cells, _all(client, found)))
        report.say(f"{count:,} findings in {csv}")
    elif report.json:
        print_json({**found, "all": list(_all(client, found))})
    else:
        _print(client, found, report)


def _all(client: Client, found: Document) -> Iterator[Document]:
    """All findings, a page at a time."""
    some = any(sum(counts.values()) for counts in found["findings"].values())
    cursor: int | None = 0 if some else None
    while cursor is not None:
        page = client.get("label-audits", found["id"], "findings", cursor=cursor, limit=200)
        yield from page["findings"]
        cursor = page["cursor"]


def _print(client: Client, found: Document, report: Report) -> None:
    about = found["report"]
    report.say(
        f"label audit {found['id']}: {about['compared']:,} of {about['images']:,} images compared, "
        f"{about['labelled']:,} of them with a label and neighbours"
    )
    for kind, title in KINDS.items():
        counts = found["findings"][kind]
        total = sum(counts.values())
        decided = ", ".join(f"{n:,} {state}" for state, n in counts.items() if n)
        report.say(f"{total:,} {title}" + (f": {decided}" if total else ""))
        page = client.get("label-audits", found["id"], "findings", kind=kind, limit=FIRST)
        if page["findings"]:
            print_rows(report.console, [_row(each) for each in page["findings"]], "")
    report.say(f"all of them: kindred audit-labels --show {found['id']} --csv FILE")


def _row(finding: Document) -> dict[str, str]:
    cells = _cells(finding)
    shown = {
        "": cells["rank"],
        "image id": cells["image_id"],
        "label": cells["label"],
        "other image": cells["other_image_id"],
        "other label": cells["other_label"],
        "neighbours say": cells["suggested_label"],
        "evidence": f"{finding['evidence']:.3f}",
        "state": cells["state"],
    }
    pair = len(finding["images"]) == 2
    left_out = ("neighbours say",) if pair else ("other image", "other label")
    return {
        name: printable(str("" if value is None else value))
        for name, value in shown.items()
        if name not in left_out
    }


def _cells(finding: Document) -> dict[str, Any]:
    first = finding["images"][0]
    other = finding["images"][1] if finding["images"][1:] else {}
    decision, neighbours = finding["decision"], finding["neighbours"]
    return {
        **{name: finding[name] for name in ("id", "kind", "rank", "evidence")},
        **{name: finding[name] for name in ("same_bytes", "hash_distance")},
        **{name: first[name] for name in ("image_id", "label", "group")},
        **{f"other_{name}": other.get(name) for name in ("image_id", "label", "group")},
        "suggested_label": finding["suggested"],
        "neighbour_ids": " ".join(each["image_id"] for each in neighbours),
        "neighbour_labels": " ".join(str(each["label"]) for each in neighbours),
        "neighbour_similarities": " ".join(f"{each['similarity']:.4f}" for each in neighbours),
        "state": decision["verdict"] if decision else "open",
        "decided_by": decision and decision["by"],
        "decided_at": decision and decision["at"],
    }
