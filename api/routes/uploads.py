"""Uploads: files become a job, by the same rules as a folder."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from fastapi import APIRouter, Request, Response
from pydantic import JsonValue, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from api.access import require
from api.audit import EntryDep
from api.forms import FORM, files_of, read_form, text_of
from api.queries import json_text
from api.received import Received, store_upload
from api.routes.jobs import NewJobDep, OptionsDep, known_job, start_ingest
from api.services import Collection, CollectionDep
from pipeline.base.blobs import dicom_folder, upload_folder
from pipeline.base.errors import BlobsUnavailable, InvalidQuery
from pipeline.messages import Message, SkippedFile, UploadedFile
from pipeline.operations.job import JobView
from pipeline.sources.folder.names import slashed
from pipeline.sources.upload import UploadSource

router = APIRouter(tags=["images"], dependencies=[require("ingest")])

MAX_FILES = 1000

Metadata = dict[str, JsonValue]

_metadata: TypeAdapter[list[Metadata]] = TypeAdapter(list[Metadata])


class RefusedFile(Message):
    """A file that a caller did not send, and why: the upload's totals count it as rejected.

    `image_id` is what its image would be called, if something says that.
    """

    name: str
    reason: str
    image_id: str | None = None


class Account(Message):
    """What a caller found beside the files that it sends.

    `names` are those of the files, instead of the form's: not every name fits into a header.
    `places`: of rows of a data set, where each stands.
    """

    names: tuple[str, ...] | None = None
    places: tuple[str, ...] = ()
    rejected: tuple[RefusedFile, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()


_TEXT = {
    "metadata": "JSON list, one object for each file",
    "account": "JSON: `rejected` and `skipped` files that the caller did not send",
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "maxItems": MAX_FILES,
                        },
                        **{n: {"type": "string", "description": d} for n, d in _TEXT.items()},
                    },
                }
            }
        },
    }
}


@router.post("/images", name="upload_images", status_code=202, openapi_extra=_BODY)
async def upload(
    request: Request,
    collection: CollectionDep,
    options: OptionsDep,
    response: Response,
    entry: EntryDep,
    job: NewJobDep,
) -> JobView:
    """Ingests files: pictures, zip and tar archives, and tables or sidecars that describe them.

    A file's name can be a path. An image's id is the `image_id` of its metadata, else its SHA-256.
    """
    async with read_form(request, files=MAX_FILES, fields=len(_TEXT)) as form:
        parts = [(file.filename or "", file.file) for file in files_of(form, "files")]
        received = received_of(parts, text_of(form, "metadata"), text_of(form, "account"))
        if known := await run_in_threadpool(known_job, collection, job, response, entry):
            return known
        source = await run_in_threadpool(_store, collection, job.id, received)
    return await run_in_threadpool(
        start_ingest, collection, source, options, job.id, response, entry
    )


def _store(collection: Collection, job: str, received: Received) -> UploadSource:
    settings, folder = collection.services.settings, upload_folder(job)
    most = settings.max_upload_mb * 1_000_000
    try:
        manifest = store_upload(
            collection.blobs,
            folder,
            received,
            collection.dicom,
            keep_names=settings.keep_names,
            most=most,
        )
    except BaseException as error:
        with suppress(BlobsUnavailable):  # do not leave half an upload, as on a full disk
            collection.blobs.delete(folder)
            collection.blobs.delete(dicom_folder(job))
        raise error
    return UploadSource(manifest=manifest)


def received_of(
    parts: Sequence[tuple[str, BinaryIO]], metadata: str | None, account: str | None
) -> Received:
    """The form's files with what its other fields say of them. Raises InvalidQuery."""
    told = _account(account)
    if not parts and not told.rejected:
        raise InvalidQuery("Send at least one file.", ("files",))
    names = [slashed(name) for name, _ in parts] if told.names is None else told.names
    if len(names) != len(parts):
        raise InvalidQuery("There must be one name for each file.", ("account", "names"))
    if told.places and len(told.places) != len(parts):
        raise InvalidQuery("There must be one place for each file.", ("account", "places"))
    return Received(
        [(name, file) for name, (_, file) in zip(names, parts, strict=True)],
        _described(metadata, len(parts)),
        tuple(map(_refused, told.rejected)),
        told.skipped,
        chosen=told.names is not None,
        places=told.places,
    )


def _refused(file: RefusedFile) -> UploadedFile:
    metadata: Metadata = {} if file.image_id is None else {"image_id": file.image_id}
    return UploadedFile(name=file.name, fault=file.reason, metadata=metadata)


def _account(text: str | None) -> Account:
    try:
        return Account() if text is None else Account.model_validate_json(json_text(text))
    except ValidationError:
        raise InvalidQuery(
            "This must be JSON with lists `rejected` (of name and reason) and `skipped` (of name "
            "and kind).",
            ("account",),
        ) from None


def _described(metadata: str | None, files: int) -> list[Metadata]:
    if metadata is None:
        return [{} for _ in range(files)]
    try:
        described = _metadata.validate_json(json_text(metadata))
    except ValidationError:
        raise InvalidQuery(
            "This must be a JSON list of objects, in UTF-8 and at most 200 deep.", ("metadata",)
        ) from None
    if len(described) != files:
        detail = f"This describes {len(described)} files, but {files} were sent."
        raise InvalidQuery(detail, ("metadata",))
    return described
