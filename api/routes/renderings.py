"""Renderings: a frame of a file as a browser can show it, by a decoder of a worker.

The api itself decodes nothing: hostile bytes end a decoder, and no more.
"""

from base64 import b64decode
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from api.access import require
from api.forms import FORM, files_of, read_form, text_of
from api.queries import answered, parse
from api.sent import frames_of, store_pictures
from api.services import Collection, CollectionDep
from pipeline.base.errors import BadRequest
from pipeline.operations.rendering import RENDERING, RenderingAnswer, RenderingRequest, Shown

router = APIRouter(prefix="/renderings", tags=["searches"], dependencies=[require("search")])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        "shown": {"type": "string", "description": "JSON: frame, centre, width"},
                    },
                }
            }
        },
    }
}
_HEADERS = {
    "Kindred-Frame": {"schema": {"type": "integer"}, "description": "Counted from 1"},
    "Kindred-Frames": {"schema": {"type": "integer"}, "description": "How many there are"},
    "Kindred-Window": {"schema": {"type": "string"}, "description": "Centre/width, if grey"},
}


@router.post(
    "",
    name="render",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}, "headers": _HEADERS}},
    openapi_extra=_BODY,
)
async def render(request: Request, collection: CollectionDep) -> Response:
    """One frame as a JPEG. Nothing of the file stays."""
    async with read_form(request, files=1, fields=1) as form:
        images = files_of(form, "image")
        if set(form) - {"image", "shown"} or len(images) != 1:
            raise BadRequest("The form has one image, and may have the field shown.")
        shown = parse(Shown, text_of(form, "shown") or "{}", ("shown",))
        data = await images[0].read()
    frames = await run_in_threadpool(frames_of, data)
    found = await answered(collection, RENDERING, partial(_stored, collection, data, shown))
    made = RenderingAnswer.model_validate_json(found)
    headers = {"Cache-Control": "no-store", "Kindred-Frames": str(frames)}
    headers["Kindred-Frame"] = str(shown.frame or (frames + 1) // 2)
    if made.window is not None:
        headers["Kindred-Window"] = "{:g}/{:g}".format(*made.window)
    return Response(b64decode(made.jpeg), media_type="image/jpeg", headers=headers)


def _stored(collection: Collection, data: bytes, shown: Shown, identifier: str) -> RenderingRequest:
    """Raises InvalidQuery."""
    [image] = store_pictures(collection, identifier, [data], frame=shown.frame)
    return RenderingRequest(image=image, shown=shown)
