"""Reads the forms in which files are sent (multipart/form-data)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from pipeline.base.errors import BadRequest, InvalidQuery

FORM = "multipart/form-data"


def is_form(request: Request) -> bool:
    """Whether the body is a form. Media types are the same in any case (RFC 9110)."""
    kind = request.headers.get("Content-Type", "").partition(";")[0]
    return kind.strip().lower() == FORM


@asynccontextmanager
async def read_form(request: Request, files: int, fields: int) -> AsyncIterator[FormData]:
    """The request's form, with at most so many files and so many other fields.

    Raises BadRequest if it cannot be read.
    """
    if not is_form(request):
        raise BadRequest(f"Send a form: {FORM}.")
    parser = _Parser(request.headers, request.stream(), max_files=files, max_fields=fields)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadRequest(error.message) from None
    except UnicodeError:
        raise BadRequest("The form's encoding cannot be read.") from None
    try:
        yield form
    finally:
        await form.close()


def files_of(form: FormData, name: str) -> list[UploadFile]:
    """The files of a field. Raises InvalidQuery if one of them was sent as text."""
    found = form.getlist(name)
    files = [each for each in found if isinstance(each, UploadFile)]
    if len(files) < len(found):
        raise InvalidQuery(f"Send each as a file of the form, under the name {name}.", (name,))
    return files


def text_of(form: FormData, name: str) -> str | None:
    """The text of a field; None without it. Raises InvalidQuery for a file."""
    text = form.get(name)
    if isinstance(text, UploadFile):
        raise InvalidQuery("Send this as JSON text, not as a file.", (name,))
    return text


class _Parser(MultiPartParser):
    """Takes parts as files that have their name in `filename*` alone (RFC 6266).

    RFC 7578 forbids that, and clients send it all the same for names beyond ASCII.
    """

    def on_headers_finished(self) -> None:
        part: Any = self._current_part
        name = _extended_filename(part.content_disposition or b"")
        if name is not None:
            part.content_disposition += b'; filename="file"'  # the last of several is the one
        super().on_headers_finished()
        if name is not None:
            part.file.filename = name


def _extended_filename(disposition: bytes) -> str | None:
    """The file's name, if it is given in the extended form; empty if that is not valid."""
    header = Message()
    header["Content-Disposition"] = disposition.decode("latin-1")
    found: Any = header.get_params([], header="Content-Disposition", unquote=False)
    for name, value in found:
        # The extended form is parsed as (charset, language, text).
        if name.lower() == "filename" and isinstance(value, tuple):
            with suppress(LookupError, UnicodeError, ValueError):
                return collapse_rfc2231_value(value)
            return ""
    return None
