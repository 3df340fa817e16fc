"""The findings of label audits: pages in the blobs, which name images.

label-audits/{job}/request.json        what to audit, sealed where its filter can name a patient;
                                       it goes when the report is there
                   report.json         what was audited, without any image or filter
                   {place}.page.json   findings; `place` is that of the first one

An audit's pages are written before its job succeeds, and go with its job (`KINDRED_JOB_DAYS`). What
people decide is in the ledger and stays, for later audits that find the same (`ledger/decisions`).

An audit writes its pages first and looks for tombstones afterwards; a deletion adds tombstones
first and then removes what the pages say of its images. So the one that comes last removes what the
other one missed.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from pipeline.base.blobs import Blobs, label_audit_folder
from pipeline.base.errors import NotFound
from pipeline.base.identity import point_id
from pipeline.base.sealing import seal, unseal
from pipeline.dicom.pseudonyms import Pseudonyms, may_name_patient, no_pseudonyms
from pipeline.ledger import Ledger
from pipeline.lifecycle.tombstone_keys import tombstone_key
from pipeline.messages import Message
from pipeline.messages.base import read
from pipeline.messages.label_audits import (
    Decision,
    Finding,
    LabelAuditReport,
    LabelAuditRequest,
)

PAGE = 200  # findings

_ID = re.compile(r"[0-9a-f-]{36}")


class FindingsPage(Message):
    findings: tuple[Finding, ...] = Field(())


@dataclass(frozen=True)
class LabelAudits:
    """Every method raises LedgerUnavailable or BlobsUnavailable, and is safe to repeat."""

    blobs: Blobs
    ledger: Ledger
    pseudonyms: Callable[[], Pseudonyms] = no_pseudonyms

    def write_request(self, audit: str, request: LabelAuditRequest) -> None:
        body, keys = request.model_dump_json(exclude_none=True).encode(), self.pseudonyms().keys
        sealed = seal(body, keys) if keys and may_name_patient(body) else body
        self.blobs.write(_blob(audit, "request"), sealed, durable=True)

    def request(self, audit: str) -> LabelAuditRequest:
        """Raises NotFound."""
        try:
            sealed = self.blobs.read(_blob(audit, "request"))
        except FileNotFoundError:
            raise NotFound("The request of this audit is gone: send it again.") from None
        return read(LabelAuditRequest, unseal(sealed, self.pseudonyms().keys))

    def write(self, audit: str, report: LabelAuditReport, findings: Sequence[Finding]) -> None:
        """In the place of what an earlier try has written. The request goes at last."""
        folder = label_audit_folder(audit)
        for name in self._pages(folder):
            self.blobs.delete(name)
        for start in range(0, len(findings), PAGE):
            page = FindingsPage(findings=tuple(findings[start : start + PAGE]))
            self._write_page(_blob(audit, f"{start:06}.page"), page)
        self._forget_deleted(folder)
        body = report.model_dump_json().encode()
        self.blobs.write(_blob(audit, "report"), body, durable=True)
        self.blobs.delete(_blob(audit, "request"))

    def report(self, audit: str) -> LabelAuditReport | None:
        """None while it is not written. It is written last."""
        if not _ID.fullmatch(audit):  # it becomes a path
            return None
        try:
            return read(LabelAuditReport, self.blobs.read(_blob(audit, "report")))
        except FileNotFoundError:
            return None

    def findings(self, audit: str, place: int = 0) -> Iterator[Finding]:
        """All from this place on, in order."""
        names = self._pages(label_audit_folder(audit))
        starts = [_start(name) for name in names]
        for number, name in enumerate(names):
            if number + 1 < len(names) and starts[number + 1] <= place:
                continue
            yield from (each for each in self._page(name).findings if each.place >= place)

    def finding(self, audit: str, finding: str) -> Finding:
        """Raises NotFound."""
        for each in self.findings(audit):
            if each.id == finding:
                return each
        raise NotFound(f"There is no finding {finding} in label audit {audit}.")

    def decide(self, finding: Finding, decision: Decision | None) -> None:
        """None: it is open again. Raises NotFound if an image of it was deleted just now."""
        points = [point_id(image.image_id) for image in finding.images]
        if decision is None:
            self.ledger.decisions.undo(finding.id, points)
            return
        self.ledger.decisions.decide(finding.id, points, decision)
        if self._deleted([image.image_id for image in finding.images]):
            self.ledger.decisions.undo(finding.id, points)
            raise NotFound("An image of this finding was deleted.")

    def forget(self, image_ids: Sequence[str]) -> None:
        """Forgets what was decided on these images, which are being deleted."""
        self.ledger.decisions.forget([point_id(image_id) for image_id in image_ids])

    def forget_deleted(self) -> None:
        """Removes from all findings the images that have a tombstone."""
        for folder in self.blobs.names(label_audit_folder()):
            self._forget_deleted(folder)

    def _forget_deleted(self, folder: str) -> None:
        for name in self._pages(folder):
            page = self._page(name)
            deleted = self._deleted([*_image_ids(page)])
            if deleted:
                self.forget([*deleted])
                left = (_without(deleted, each) for each in page.findings)
                findings = tuple(each for each in left if each is not None)
                self._write_page(name, FindingsPage(findings=findings))

    def _deleted(self, image_ids: Sequence[str]) -> set[str]:
        keys = {tombstone_key("image_id", image_id): image_id for image_id in image_ids}
        return {keys[key] for key in self.ledger.tombstones.contains([*keys])}

    def _pages(self, folder: str) -> list[str]:
        return [name for name in self.blobs.names(folder) if name.endswith(".page.json")]

    def _page(self, name: str) -> FindingsPage:
        """Empty if its job was forgotten just now."""
        try:
            return read(FindingsPage, self.blobs.read(name))
        except FileNotFoundError:
            return FindingsPage()

    def _write_page(self, name: str, page: FindingsPage) -> None:
        self.blobs.write(name, page.model_dump_json(exclude_none=True).encode())


def _blob(audit: str, name: str) -> str:
    return f"{label_audit_folder(audit)}/{name}.json"


def _start(name: str) -> int:
    return int(name.rpartition("/")[2].partition(".")[0])


def _image_ids(page: FindingsPage) -> Iterator[str]:
    for finding in page.findings:
        yield from (image.image_id for image in (*finding.images, *finding.neighbours))


def _without(deleted: set[str], finding: Finding) -> Finding | None:
    """None if it is about a deleted image, or if nothing is left that speaks for it."""
    if any(image.image_id in deleted for image in finding.images):
        return None
    left = tuple(each for each in finding.neighbours if each.image_id not in deleted)
    if len(left) == len(finding.neighbours):
        return finding
    return finding.model_copy(update={"neighbours": left}) if left else None
