"""Recognises texts by their first bytes: a name from `kinds.KINDS`, or nothing."""

import codecs
import re

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark begins it
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# Control characters that texts hold: tab, the ends of lines and pages, the end of a DOS file,
# escape.
_CONTROLS = re.compile(r"[^\t\n\v\f\r\x1a\x1b -\ufffd\U00010000-\U0010ffff]")

# The parts of 1 that a text has at least. Random bytes have letters by chance, and controls.
_LEAST_ASCII = 0.15
_LEAST_WIDE = 0.9  # of the pairs of bytes of Latin text in UTF-16: one of both is zero

_LFS = ("version https://git-lfs.github.com/spec/", "version https://hawser.github.com/spec/")
_ANNEX = "/annex/objects/"
_HTML = re.compile(r"<(!doctype\s+html|html|head|body|title|meta|script|div|p|table)[\s>]", re.I)
_SVG = re.compile(r"<(\w+:)?svg[\s>]|<!doctype\s+svg", re.I)
_COMMENT = re.compile(r"\s*<!--.*?-->\s*", re.DOTALL)
_XML = re.compile(r"<(\?xml|!doctype|!--|[A-Za-z_][\w:.-]*(\s+[\w:.-]+\s*=|\s*/?>))", re.I)
_JSON = re.compile(
    r"""\{\s*(["}]|$)|\[\s*(["\[{\]]|$|-?\d[\d.eE+-]*\s*(,|\]\s*$)|(true|false|null)\b)"""
)


def text_kind(head: bytes, cut: int) -> str | None:
    """What kind of text begins so; None if it is no text.

    A head of `cut` bytes may end within a character.
    """
    text = _text(head, final=len(head) < cut)
    return None if text is None else _kind(text.lstrip("\ufeff \t\r\n"))


def _kind(text: str) -> str:
    if text.startswith(_LFS):
        return "lfs pointer"
    if text.startswith(_ANNEX):
        return "annex pointer"
    if text.startswith("<"):
        return _markup(text)
    return "json" if _JSON.match(text) else "text"


def _markup(text: str) -> str:
    """A page, a drawing or another XML; a comment or a declaration may stand in front."""
    bare = _COMMENT.sub("", text)
    if _HTML.match(bare):
        return "html"
    if _SVG.search(text):
        return "svg"
    if bare.startswith("<?xml") and re.search(r"<html[\s>]", text, re.I):
        return "html"
    return "xml" if _XML.match(text) else "text"


def _text(head: bytes, *, final: bool) -> str | None:
    """The text that `head` is; None if it is none in any encoding."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return _decoded(head, encoding, final=final)
    if b"\0" in head:
        return _wide(head, final=final)
    utf8 = _decoded(head, "utf-8", final=final)
    return _latin(head) if utf8 is None else utf8


def _decoded(head: bytes, encoding: str, *, final: bool) -> str | None:
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head, final)
    except UnicodeDecodeError:
        return None
    return None if _CONTROLS.search(text) else text


def _latin(head: bytes) -> str | None:
    """In one of the encodings of one byte a character, or of two: which one does not matter."""
    ascii_part = sum(byte < 0x80 for byte in head) / len(head)
    text = head.decode("latin-1")
    return text if ascii_part >= _LEAST_ASCII and not re.search(_ASCII_CONTROLS, text) else None


_ASCII_CONTROLS = re.compile(r"[\0-\x08\x0e-\x19\x1c-\x1f\x7f]")


def _wide(head: bytes, *, final: bool) -> str | None:
    """UTF-16 without its mark, as Windows writes it: in Latin text, one byte of two is zero."""
    pairs = len(head) // 2
    for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if pairs and zeros.count(0) >= _LEAST_WIDE * pairs:
            return _decoded(head, encoding, final=final)
    return None
