"""The link of a result to the department's viewer, for whoever may re-identify.

A worker passes on what is sealed in an image's payload, as `viewer`. Here it becomes an address,
or nothing: to everybody else no answer shows that there is one.
"""

import json
from collections.abc import Iterator
from string import Formatter
from typing import Any
from urllib.parse import quote

from api.audit import Entry
from api.services import Collection
from pipeline.base.keys import includes
from pipeline.dicom.originals import Sealing

_SIGN = b'"viewer"'


def with_viewer(body: bytes, collection: Collection, entry: Entry | None) -> bytes:
    """The answer of a worker as its caller may see it; `entry` gets what it re-identifies."""
    if _SIGN not in body:
        return body
    settings = collection.services.settings
    caller = entry.caller if entry is not None else None
    may = settings.viewer_url and caller and includes(caller.role, settings.viewer_role)
    sealing = Sealing(collection.dicom.pseudonyms) if may else None
    answer = json.loads(body)
    for image in _images(answer):
        sealed = image.pop("viewer", None)
        opened = sealing.open(sealed, image["image_id"]) if sealing and sealed else None
        address = link(settings.viewer_url or "", opened) if opened else None
        if entry is not None and address is not None:
            image["viewer"] = address
            entry.reidentified.append(image["image_id"])
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def link(template: str, numbers: dict[str, str]) -> str | None:
    """The template filled in; None if it wants a number that the file did not have."""
    wanted = {name for _, name, _, _ in Formatter().parse(template) if name}
    if not wanted <= numbers.keys():
        return None
    return template.format(**{name: quote(value, safe="") for name, value in numbers.items()})


def _images(found: Any) -> Iterator[dict[str, Any]]:
    """Every image of an answer, those of groups too."""
    if isinstance(found, list):
        for each in found:
            yield from _images(each)
    elif isinstance(found, dict):
        if "image_id" in found and "payload" in found:
            yield found
        for name in ("results", "images", "others"):
            yield from _images(found.get(name))
