"""A study opened from an archive or an information system, by one address (IHE RAD TF-2, 3.106).

`/open?study=UID` is a link that another system makes. The number in it is hashed at once, and the
browser goes on to an address of the page that has the key alone: no log, history or bookmark of
ours holds the number. Who has not signed in gets it sealed, so that nobody without a key learns
which key a number has; the page has it opened after the sign-in.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from api.access import require
from api.services import Collection, CollectionDep, Services, ServicesDep
from pipeline.base.errors import InvalidQuery, KindredError
from pipeline.dicom.kept import HASHED
from pipeline.dicom.originals import Sealing
from pipeline.dicom.pseudonyms import Pseudonyms
from pipeline.dicom.uids import LONGEST, is_key, may_be_uid
from pipeline.dicom.values import plain
from pipeline.messages import COLLECTED, Message

links = APIRouter(tags=["page"])
router = APIRouter(prefix="/opened", tags=["page"], dependencies=[require("search")])

SECONDS = 3600.0  # for which a sealed link is good: until somebody has signed in
MOST = 16  # numbers in one link

# The names that IHE's Invoke Image Display gives them, beside our own.
_NAMES = {
    "series": ("series", "seriesUID"),
    "study": ("study", "studyUID"),
    "accession": ("accession", "accessionNumber"),
}
_UNREADABLE = "unreadable"

_ELEMENTS = {field: keyword for keyword, field in HASHED.items()}


class Sealed(Message):
    """What stands behind `open=` in the page's address."""

    token: str


class Opened(Message):
    """The kind of what is opened, and its keys."""

    kind: str
    keys: tuple[str, ...]


@links.get("/open", name="open_study", status_code=303, response_class=RedirectResponse)
def open_study(request: Request, services: ServicesDep) -> RedirectResponse:
    """Goes on to the page: `study`, `series` or `accession` by its original number.

    Also as IHE's Invoke Image Display has it: `requestType=STUDY` with `studyUID` or
    `accessionNumber`.
    """
    collection = services.collection()
    found = _asked(request.query_params, collection)
    if found is None:
        target = {"open": _UNREADABLE}
    elif _is_admitted(request, services):
        return _to([(found.kind, key) for key in found.keys])
    else:
        target = {"open": _sealed(found, collection)}
    return _to([*target.items()])


@router.post("", name="opened")
async def opened(body: Sealed, collection: CollectionDep) -> Opened:
    """What a sealed link of `/open` names, for the page after the sign-in."""
    found = await run_in_threadpool(_sealing(collection).open, body.token, "open")
    if found is None:
        raise InvalidQuery("This link names no study, series or accession number.", ("token",))
    if time.time() > float(found["until"]):
        raise InvalidQuery("This link has expired.", ("token",))
    return Opened(kind=found["kind"], keys=tuple(found["keys"].split(",")))


def _asked(parameters: Mapping[str, str], collection: Collection) -> Opened | None:
    """The keys of what the address names; None if it names nothing that could be a number."""
    given = {name.casefold(): value for name, value in parameters.items()}
    for kind, names in _NAMES.items():
        texts = [given[name.casefold()] for name in names if given.get(name.casefold())]
        numbers = [plain(each) for text in texts for each in text.replace("\\", ",").split(",")]
        if not numbers:
            continue
        if len(numbers) > MOST or not all(_is_possible(kind, number) for number in numbers):
            return None
        keys = _keys(kind, numbers, collection.pseudonyms)
        return Opened(kind=kind, keys=tuple(keys))
    return None


def _keys(kind: str, numbers: Sequence[str], pseudonyms: Pseudonyms) -> Iterator[str]:
    """Under all secrets: a rotation leaves images under the old ones."""
    for number in numbers:
        if is_key(number):
            yield number
        else:
            yield from pseudonyms.all_of(_ELEMENTS[COLLECTED[kind]], number)


def _is_possible(kind: str, number: str) -> bool:
    if kind == "accession":
        return 0 < len(number) <= LONGEST
    return may_be_uid(number) or is_key(number)


def _is_admitted(request: Request, services: Services) -> bool:
    """Whether the caller has signed in, and the browser says so across sites."""
    try:
        services.access.admit(request)
    except KindredError:
        return False
    return True


def _sealed(found: Opened, collection: Collection) -> str:
    until = str(time.time() + SECONDS)
    numbers = {"kind": found.kind, "keys": ",".join(found.keys), "until": until}
    return _sealing(collection).seal(numbers, "open")


def _sealing(collection: Collection) -> Sealing:
    return Sealing(collection.pseudonyms, "open")


def _to(parameters: list[tuple[str, str]]) -> RedirectResponse:
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return RedirectResponse(f"./?{urlencode(parameters)}", 303, headers)
