"""Text of a table: its encoding, its delimiter, and what its cells are.

A value keeps its text unless the whole column is numbers: `007` is no number, nor is `1E5`, which
could be a code as well. What identifies something (`pipeline.base.identity`) always stays text.
"""

import codecs
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.base.identity import is_identifier

_MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"})
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
# Of 16 digits and more before the point, a float would lose some.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]+([eE][+-]?[0-9]{1,3})?|[eE]-[0-9]{1,3})?")
_DECIMAL_COMMA = re.compile(r"-?(0|[1-9][0-9]{0,14})(,[0-9]+)?")
MAX_DIGITS = 4000  # beyond, Python refuses to convert them
_DELIMITERS = ",;\t|"

Reader = Callable[[str], object]


class BadText(Exception):
    """Why a table cannot be read; the message is for people, and quotes nothing of the table."""


def decoded(data: bytes) -> str:
    """UTF-8 with or without a mark, UTF-16 and UTF-32, else cp1252. Raises BadText."""
    if data.startswith(codecs.BOM_UTF8):
        return _strictly(data, "utf-8-sig")
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return _strictly(data, "utf-32")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _strictly(data, "utf-16")
    if b"\0" in data[:4096]:
        return _strictly(data, "utf-16-be" if data[:1] == b"\0" else "utf-16-le")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _strictly(data, "cp1252")


def parsed(text: str) -> Any:
    """JSON, also with a number of thousands of digits, which stays text."""
    return json.loads(text, parse_int=_integer)


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MAX_DIGITS else digits


def _strictly(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        begin = data.rfind(b"\n", 0, error.start) + 1
        raise BadText(
            f"line {line:,}, byte {error.start - begin + 1:,} of it, is neither UTF-8, UTF-16 nor "
            "cp1252: save the table as UTF-8"
        ) from None


def delimiters_of(header: str) -> list[str]:
    """The delimiters; the one that cuts the header into most columns, outside of quotes, first."""
    bare = re.sub(r'"[^"]*"', "", header)
    return sorted(_DELIMITERS, key=lambda each: -bare.count(each))


def is_missing(cell: str) -> bool:
    return cell in _MISSING


class Column:
    """How to read a column's cells: as text, or as numbers if each cell that it saw is one.

    `text`: as text in any case, as what identifies something always is.
    """

    def __init__(self, name: str, delimiter: str, *, text: bool = False) -> None:
        patterns: dict[re.Pattern[str], Reader] = {_INTEGER: int, _NUMBER: float}
        if delimiter != ",":
            patterns[_DECIMAL_COMMA] = _with_comma
        self._fitting: dict[re.Pattern[str], Reader] = {}
        if not text and not is_identifier(name):
            self._fitting |= patterns

    def see(self, cell: str) -> None:
        if self._fitting and cell not in _MISSING:
            for pattern in [each for each in self._fitting if not each.fullmatch(cell)]:
                del self._fitting[pattern]

    def reader(self) -> Reader:
        return next(iter(self._fitting.values()), str)


def _with_comma(cell: str) -> float:
    return float(cell.replace(",", "."))


def headers(cells: Sequence[str]) -> list[str]:
    """The columns' names, each once: one without a name is called by its place."""
    names: list[str] = []
    for number, cell in enumerate(cells, 1):
        name = own = cell.strip() or f"column_{number}"
        more = 2
        while name in names:
            name, more = f"{own}_{more}", more + 1
        names.append(name)
    return names
