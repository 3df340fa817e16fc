"""The blobs of an evaluation or a comparison, which the api and a worker share.

evaluations/{id}/request.json   what was asked for, sealed where its filter can name a patient
                 report.json    what was found: numbers and the names of labels

They go when the ledger forgets the job.
"""

import re
from collections.abc import Callable
from typing import Generic, TypeVar

from pipeline.base.blobs import Blobs, evaluation_folder
from pipeline.base.errors import NotFound
from pipeline.base.sealing import seal, unseal
from pipeline.dicom.pseudonyms import Pseudonyms, may_name_patient, no_pseudonyms
from pipeline.messages.base import Message, read
from pipeline.messages.comparisons import ComparisonReport, ComparisonRequest
from pipeline.messages.evaluations import EvaluationReport, EvaluationRequest

_ID = re.compile(r"[0-9a-f-]{36}")


Asked = TypeVar("Asked", bound=Message)
Found = TypeVar("Found", bound=Message)


class _Kept(Generic[Asked, Found]):
    """Raises BlobsUnavailable."""

    asked: type[Asked]
    found: type[Found]

    def __init__(self, blobs: Blobs, pseudonyms: Callable[[], Pseudonyms] = no_pseudonyms) -> None:
        self.blobs = blobs
        self.pseudonyms = pseudonyms

    def write_request(self, job: str, request: Asked) -> None:
        body, keys = request.model_dump_json(exclude_none=True).encode(), self.pseudonyms().keys
        name = f"{evaluation_folder(job)}/request.json"
        sealed = seal(body, keys) if keys and may_name_patient(body) else body
        self.blobs.write(name, sealed, durable=True)

    def request(self, job: str) -> Asked:
        """Raises NotFound."""
        try:
            sealed = self.blobs.read(f"{evaluation_folder(job)}/request.json")
        except FileNotFoundError:
            raise NotFound("The request of this evaluation is gone: send it again.") from None
        return read(self.asked, unseal(sealed, self.pseudonyms().keys))

    def write_report(self, job: str, report: Found) -> None:
        """Returns when it would survive a power cut."""
        name = f"{evaluation_folder(job)}/report.json"
        self.blobs.write(name, report.model_dump_json().encode(), durable=True)

    def report(self, job: str) -> Found | None:
        if not _ID.fullmatch(job):  # it becomes a path
            return None
        try:
            body = self.blobs.read(f"{evaluation_folder(job)}/report.json")
        except FileNotFoundError:
            return None
        return read(self.found, body)

    def all(self) -> list[str]:
        """The ids of all evaluations and comparisons that are known, in no special order."""
        return [name.rpartition("/")[2] for name in self.blobs.names("evaluations")]


class Evaluations(_Kept[EvaluationRequest, EvaluationReport]):
    asked, found = EvaluationRequest, EvaluationReport


class Comparisons(_Kept[ComparisonRequest, ComparisonReport]):
    asked, found = ComparisonRequest, ComparisonReport
