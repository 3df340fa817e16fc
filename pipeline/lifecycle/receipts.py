"""The blobs of a deletion, which a worker writes and the api reads.

deletions/{id}/request.json       what to delete, sealed, for only as long as it is needed
               tombstones.json    the keys of its tombstones, hashed, for when it is lifted
               plan.json          the pages of image ids, in the order of deletion
               *.page.json        a page; it is written before its images are deleted
               end.json           how it ended, once the ledger has forgotten it
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import Field

from pipeline.base.blobs import Blobs, deletion_folder
from pipeline.base.errors import NotFound
from pipeline.base.sealing import seal, unseal
from pipeline.base.states import JobState
from pipeline.dicom.pseudonyms import Pseudonyms, may_name_patient, no_pseudonyms
from pipeline.ledger import JobRecord, Tombstones
from pipeline.lifecycle.tombstone_keys import keys_of_images
from pipeline.messages import Deletion, Message, Receipt
from pipeline.messages.base import read

PAGE = 500  # images in one step: receipt, store, previews

_ID = re.compile(r"[0-9a-f-]{36}")


class DeleteRequest(Message):
    """`must_exist`: whether an image that is not indexed is an error."""

    wanted: Deletion
    must_exist: bool = Field(False)


class DeletionEnd(Message):
    """How a deletion ended. `total` is unknown if it was never planned."""

    state: JobState
    total: int | None = None
    deleted: int = 0


@dataclass(frozen=True)
class Receipts:
    """Raises NotFound for an unknown deletion, and BlobsUnavailable."""

    blobs: Blobs
    tombstones: Tombstones
    pseudonyms: Callable[[], Pseudonyms] = no_pseudonyms

    def write_request(self, deletion: str, request: DeleteRequest) -> None:
        """Sealed if it can have a patient's number as the caller wrote it."""
        body, keys = request.model_dump_json(exclude_none=True).encode(), self.pseudonyms().keys
        name = f"{deletion_folder(deletion)}/request.json"
        self.blobs.write(name, seal(body, keys) if keys and may_name_patient(body) else body)

    def request(self, deletion: str) -> DeleteRequest | None:
        """None once it has been forgotten."""
        try:
            sealed = self.blobs.read(f"{deletion_folder(deletion)}/request.json")
            body = unseal(sealed, self.pseudonyms().keys)
        except FileNotFoundError:
            return None
        return read(DeleteRequest, body)

    def forget_request(self, deletion: str) -> None:
        """The request has the patient's number; the tombstones have it hashed."""
        self.blobs.delete(f"{deletion_folder(deletion)}/request.json")

    def has_request(self, deletion: str) -> bool:
        return self.blobs.exists(f"{deletion_folder(deletion)}/request.json")

    def write_end(self, job: JobRecord) -> None:
        end = DeletionEnd(state=job.state, total=job.total, deleted=job.counts.get("deleted", 0))
        self._write(job.id, "end.json", end.model_dump_json())

    def end(self, deletion: str) -> DeletionEnd:
        """Of a deletion that the ledger has forgotten. Raises NotFound for an unknown one."""
        self._names(deletion)
        try:
            return read(DeletionEnd, self.blobs.read(f"{deletion_folder(deletion)}/end.json"))
        except FileNotFoundError:  # the ledger was lost
            return DeletionEnd(state="succeeded")

    def write_keys(self, deletion: str, keys: Sequence[str]) -> None:
        self._write(deletion, "tombstones.json", json.dumps(list(keys)))

    def write_plan(self, deletion: str, pages: Sequence[str]) -> None:
        self._write(deletion, "plan.json", json.dumps(list(pages)))

    def write_page(self, deletion: str, name: str, image_ids: Sequence[str]) -> str:
        """Returns the page's name, and adds tombstones for its images.

        Call it before the images are deleted: afterwards nobody could list them.
        """
        self.tombstones.add(keys_of_images(image_ids), deletion)
        page = Receipt(id=deletion, count=len(image_ids), image_ids=tuple(image_ids))
        self._write(deletion, f"{name}.page.json", page.model_dump_json())
        return f"{name}.page.json"

    def planned_page(self, deletion: str, row: int) -> tuple[str, ...]:
        """The image ids of the page that begins at this row of the plan."""
        name = self._plan(deletion)[row // PAGE]
        return self._page(f"{deletion_folder(deletion)}/{name}").image_ids

    def planned_total(self, deletion: str) -> int:
        """How many images the plan has. All of its pages but the last are full."""
        if not self.begun(deletion):
            raise NotFound("The request of this deletion has been forgotten: send it again.")
        pages = len(self._plan(deletion))
        full = max(0, pages - 1) * PAGE
        return full + len(self.planned_page(deletion, full)) if pages else 0

    def begun(self, deletion: str) -> bool:
        """Whether a worker has planned the deletion before, and may have deleted some images."""
        return self.blobs.exists(f"{deletion_folder(deletion)}/plan.json")

    def receipt(self, deletion: str) -> Receipt:
        """All deleted images, including those that a running job brought later."""
        names = self._names(deletion)
        pages = [self._page(name) for name in names if name.endswith(".page.json")]
        ids = sorted({image_id for page in pages for image_id in page.image_ids})
        return Receipt(id=deletion, count=len(ids), image_ids=tuple(ids))

    def lift(self, deletion: str) -> Receipt:
        """Allows the deleted images to be ingested again."""
        receipt = self.receipt(deletion)
        own = f"{deletion_folder(deletion)}/tombstones.json"
        keys = json.loads(self.blobs.read(own)) if self.blobs.exists(own) else []
        self.tombstones.remove([*keys_of_images(receipt.image_ids), *keys])
        return receipt

    def _plan(self, deletion: str) -> list[str]:
        pages: list[str] = json.loads(self.blobs.read(f"{deletion_folder(deletion)}/plan.json"))
        return pages

    def _names(self, deletion: str) -> list[str]:
        # Check the id, since it becomes a path.
        names = self.blobs.names(deletion_folder(deletion)) if _ID.fullmatch(deletion) else []
        if not names:
            raise NotFound(f"There is no deletion {deletion}.")
        return names

    def _page(self, name: str) -> Receipt:
        return Receipt.model_validate_json(self.blobs.read(name))

    def _write(self, deletion: str, name: str, text: str) -> None:
        self.blobs.write(f"{deletion_folder(deletion)}/{name}", text.encode())
