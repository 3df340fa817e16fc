"""Reads the parts of a multipart/related body one by one, as they come (RFC 2387)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header


class NotInParts(Exception):
    """The body is not in the parts that its boundary says, or ends before the last one."""


@dataclass
class Part:
    """`kind` is its media type, without parameters; `data` is None if it was too large."""

    kind: str
    data: bytes | None


@dataclass
class MediaType:
    """As of a Content-Type header. Names are in small letters."""

    name: str
    parameters: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, header: str) -> "MediaType":
        name, found = parse_options_header(header)
        pairs = ((k.decode("latin-1"), v.decode("latin-1")) for k, v in found.items())
        return cls(name.decode("latin-1").strip().lower(), {k.lower(): v for k, v in pairs})


class Parts:
    """Give it the body piece by piece: it has one part in memory. Raises NotInParts."""

    def __init__(self, boundary: str, most: int) -> None:
        """`most` is the size of a part in bytes: a larger one comes without its data."""
        self._reading = _Reading(most)
        try:
            self._parser = MultipartParser(boundary.encode("latin-1"), self._reading.callbacks())
        except (FormParserError, UnicodeError):
            raise NotInParts from None

    def feed(self, data: bytes) -> Iterator[Part]:
        """The parts that end in it."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise NotInParts from None
        while self._reading.whole:
            yield self._reading.whole.pop(0)

    def close(self) -> None:
        if self._parser.state != MultipartState.END:
            raise NotInParts


class _Reading:
    def __init__(self, most: int) -> None:
        self.whole: list[Part] = []
        self._most = most
        self._name, self._value, self._kind = bytearray(), bytearray(), ""
        self._data: bytearray | None = None

    def callbacks(self) -> Any:
        """As the parser takes them: it gives each a buffer, and a range of it."""
        names = (
            "part_begin", "part_data", "part_end", "header_field", "header_value", "header_end"
        )  # fmt: skip
        return {f"on_{name}": getattr(self, f"_{name}") for name in names}

    def _part_begin(self) -> None:
        self._kind, self._data = "", bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-type":
            self._kind = MediaType.of(self._value.decode("latin-1")).name
        self._name, self._value = bytearray(), bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._data is None or len(self._data) + end - start > self._most:
            self._data = None
        else:
            self._data += data[start:end]

    def _part_end(self) -> None:
        data, self._data = self._data, None
        self.whole.append(Part(self._kind, None if data is None else bytes(data)))
