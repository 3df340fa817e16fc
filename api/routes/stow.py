"""STOW-RS: DICOM instances over HTTP, as archives and modalities send them (PS3.18 10.5)."""

import io
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from api.access import require
from api.incoming import Incoming
from api.problems import documented
from api.services import CollectionDep
from api.stored import (
    CLASS_NOT_SUPPORTED,
    JSON,
    NOT_DECODED,
    NOT_UNDERSTOOD,
    OTHER_STUDY,
    OUT_OF_RESOURCES,
    XML,
    Instance,
    Outcome,
)
from pipeline.base.errors import (
    BadRequest,
    IncomingFull,
    NotAcceptable,
    Unavailable,
    UnsupportedMedia,
)
from pipeline.base.related import MediaType, NotInParts, Part, Parts
from pipeline.dicom.describing import Policy, describe
from pipeline.dicom.errors import NO_PIXELS, NOT_READ, Refused
from pipeline.dicom.reading import read_header, refusing
from pipeline.sources.local import MAX_FILE

router = APIRouter(prefix="/dicom-web", tags=["DICOMweb"], dependencies=[require("ingest")])

DICOM = "application/dicom"
RELATED = "multipart/related"

_REASONS = {NOT_READ: NOT_DECODED, NO_PIXELS: CLASS_NOT_SUPPORTED}

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_MEANINGS = {
    200: "All instances were stored",
    202: "Some instances were stored, and some failed",
    409: "All instances have failed",
}
_DOCUMENTED: dict[str, Any] = {
    "openapi_extra": {
        "requestBody": {"required": True, "content": {RELATED: _BINARY, DICOM: _BINARY}}
    },
    "responses": {
        **documented(406),
        **{
            status: {
                "description": said,
                "content": {
                    JSON: {"schema": {"type": "object"}},
                    XML: {"schema": {"type": "string"}},
                },
            }
            for status, said in _MEANINGS.items()
        },
    },
    "response_class": Response,
}


def _wanted(accept: Annotated[str, Header()] = "*/*") -> str:
    """The media type of the answer. Raises NotAcceptable."""
    for each in accept.split(","):
        kind = MediaType.of(each).name
        if kind in (JSON, "application/json", "application/*", "*/*", ""):
            return JSON
        if kind in (XML, "application/xml", "text/xml"):
            return XML
    raise NotAcceptable(f"The answer can be {JSON} or {XML}.")


WantedDep = Annotated[str, Depends(_wanted)]
Study = Annotated[str, Path(pattern="^[0-9.]{1,64}$", description="A Study Instance UID")]


@router.post("/studies", name="store_instances", **_DOCUMENTED)
async def store(request: Request, collection: CollectionDep, wanted: WantedDep) -> Response:
    """Stores DICOM instances (STOW-RS). Each stored one is durable, and is indexed soon."""
    return await _answer(request, collection, wanted, None)


@router.post("/studies/{study}", name="store_instances_of_study", **_DOCUMENTED)
async def store_study(
    request: Request, collection: CollectionDep, wanted: WantedDep, study: Study
) -> Response:
    """Stores DICOM instances of one study (STOW-RS); those of another study fail."""
    return await _answer(request, collection, wanted, study)


async def _answer(
    request: Request, collection: CollectionDep, wanted: str, study: str | None
) -> Response:
    incoming: Incoming = request.app.state.batcher.incoming(collection)
    if full := await run_in_threadpool(incoming.full):
        raise IncomingFull(full)
    receiving = _Receiving(incoming, collection.dicom, study)
    async for part in _sent(request):
        await run_in_threadpool(receiving.take, part)
    outcome = await run_in_threadpool(receiving.end)
    return Response(outcome.encoded(wanted), outcome.status, media_type=wanted)


async def _sent(request: Request) -> AsyncIterator[Part]:
    """The instances of the body. Raises BadRequest and UnsupportedMedia."""
    kind = MediaType.of(request.headers.get("Content-Type", ""))
    if kind.name == DICOM:
        yield await _single(request)
        return
    if kind.name != RELATED or kind.parameters.get("type", DICOM).lower() != DICOM:
        raise UnsupportedMedia(f'Send {RELATED}; type="{DICOM}", or {DICOM}.')
    if not kind.parameters.get("boundary"):
        raise BadRequest("The Content-Type has no boundary.")
    try:
        parts = Parts(kind.parameters["boundary"], MAX_FILE)
        async for chunk in request.stream():
            for part in parts.feed(chunk):
                yield part
        parts.close()
    except NotInParts:
        raise BadRequest("The body is not in the parts that its boundary says.") from None


async def _single(request: Request) -> Part:
    data: bytearray | None = bytearray()
    async for chunk in request.stream():
        data = None if data is None or len(data) + len(chunk) > MAX_FILE else data + chunk
    return Part(DICOM, None if data is None else bytes(data))


class _Receiving:
    """The instances of one request, one after the other. Its methods block."""

    def __init__(self, incoming: Incoming, policy: Policy, study: str | None) -> None:
        self._incoming, self._policy, self._study = incoming, policy, study
        self._outcome = Outcome()
        self._away: Unavailable | None = None

    def take(self, part: Part) -> None:
        if part.data is None:
            self._outcome.failed.append((Instance(), OUT_OF_RESOURCES))
        elif part.kind not in (DICOM, ""):
            self._outcome.failed.append((Instance(), NOT_UNDERSTOOD))
        else:
            self._take(part.data)

    def end(self) -> Outcome:
        """Raises BadRequest if nothing was sent, and Unavailable if that is why all have failed."""
        self._incoming.flush()
        found = self._outcome
        if not found.stored and not found.failed:
            raise BadRequest("It has no instance.")
        if self._away is not None and not found.stored:
            raise self._away
        return found

    def _take(self, data: bytes) -> None:
        instance, reason = self._look(data)
        if reason is None and not self._put(data):
            reason = OUT_OF_RESOURCES
        if reason is None:
            self._outcome.stored.append(instance)
        else:
            self._outcome.failed.append((instance, reason))

    def _look(self, data: bytes) -> tuple[Instance, int | None]:
        """Which instance it is, and why it cannot be stored."""
        instance = Instance()
        try:
            header = read_header(io.BytesIO(data))
            with refusing():
                uids = (header.get("SOPClassUID"), header.get("SOPInstanceUID"))
                instance = Instance(*(str(uid or "") for uid in uids))
                study = str(header.get("StudyInstanceUID") or "")
                described = describe(header, self._policy)
        except Refused as refused:
            return instance, _REASONS.get(refused.reason, NOT_UNDERSTOOD)
        if not instance.is_known:
            return instance, NOT_UNDERSTOOD
        if self._study is not None and study != self._study:
            return instance, OTHER_STUDY
        return instance, CLASS_NOT_SUPPORTED if described.skip is not None else None

    def _put(self, data: bytes) -> bool:
        """After one that failed for want of a service or of room, no other is tried."""
        if self._away is None:
            try:
                if (full := self._incoming.full()) is None:
                    self._incoming.put(data)
                    return True
                self._away = IncomingFull(full)
            except Unavailable as error:
                self._away = error
        return False
