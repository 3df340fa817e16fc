"""The tables of docs/dicom-conformance.md, made of the code.

`python -m tests.conformance` writes them. Each stands between two marks,
`<!-- table: NAME -->` and `<!-- end -->`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pydicom._uid_dict import UID_dictionary
from pydicom.charset import python_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.tag import Tag

from api.dimse.contexts import image_classes, transfer_syntaxes
from pipeline.dicom import kept, kinds

PAGE = Path(__file__).parents[1] / "docs" / "dicom-conformance.md"
_TABLE = re.compile(r"<!-- table: (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)


def kept_attributes() -> str:
    codes = (each for each, _ in kept.CODES)
    rows = [
        (each.keyword, _tag(each.keyword), f"`{each.name}`", each.said)
        for each in (*kept.VALUES, *kept.OTHERS, *codes)
    ]
    return _table(("attribute", "tag", "kept as", "if it is"), rows)


def hashed_attributes() -> str:
    rows = [(keyword, _tag(keyword), f"`{name}`") for keyword, name in kept.HASHED.items()]
    return _table(("attribute", "tag", "kept as the keyed hash"), rows)


def skipped_classes() -> str:
    named = ((uid, name, kinds.of_class(uid)) for uid, (name, *_) in _sop_classes())
    rows = [(name, uid, str(kind)) for uid, name, kind in named if kind is not None]
    return _table(("SOP class", "UID", "counted as"), sorted(rows, key=lambda row: row[1:]))


def image_storage() -> str:
    rows = [(name, uid) for uid, name in image_classes().items()]
    return _table(("SOP class", "UID"), rows)


def syntaxes() -> str:
    rows = [(UID_dictionary[uid][0], uid) for uid in transfer_syntaxes()]
    return _table(("transfer syntax", "UID"), rows)


def character_sets() -> str:
    rows = [(term or "(none: ISO_IR 6)", name) for term, name in python_encoding.items()]
    return _table(("defined term", "read as"), rows)


TABLES: dict[str, Callable[[], str]] = {
    each.__name__: each
    for each in (
        kept_attributes, hashed_attributes, skipped_classes, image_storage, syntaxes,
        character_sets,
    )
}  # fmt: skip


def tables_of(page: str) -> dict[str, str]:
    """What the page has between its marks."""
    return dict(_TABLE.findall(page))


def rendered(page: str) -> str:
    """The page with the tables of the code."""
    return _TABLE.sub(lambda m: f"<!-- table: {m[1]} -->\n{TABLES[m[1]]()}<!-- end -->", page)


def _sop_classes() -> Iterable[tuple[str, tuple[str, ...]]]:
    return ((uid, found) for uid, found in UID_dictionary.items() if found[1] == "SOP Class")


def _tag(keyword: str) -> str:
    tag = Tag(tag_for_keyword(keyword) or 0)
    return f"({tag.group:04X},{tag.element:04X})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
