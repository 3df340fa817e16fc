"""The blobs of an evaluation, which the api and a worker share.

evaluations/{id}/request.json   what was asked for, sealed where its filter can name a patient
                 report.json    what was found: numbers and the names of labels

They go when the ledger forgets the job.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.base.blobs import Blobs, evaluation_folder
from pipeline.base.errors import NotFound
from pipeline.base.sealing import seal, unseal
from pipeline.dicom.pseudonyms import Pseudonyms, may_name_patient, no_pseudonyms
from pipeline.messages.base import read
from pipeline.messages.evaluations import EvaluationReport, EvaluationRequest

_ID = re.compile(r"[0-9a-f-]{36}")


@dataclass(frozen=True)
class Evaluations:
    """Raises BlobsUnavailable."""

    blobs: Blobs
    pseudonyms: Callable[[], Pseudonyms] = no_pseudonyms

    def write_request(self, evaluation: str, request: EvaluationRequest) -> None:
        body, keys = request.model_dump_json(exclude_none=True).encode(), self.pseudonyms().keys
        name = f"{evaluation_folder(evaluation)}/request.json"
        sealed = seal(body, keys) if keys and may_name_patient(body) else body
        self.blobs.write(name, sealed, durable=True)

    def request(self, evaluation: str) -> EvaluationRequest:
        """Raises NotFound."""
        try:
            sealed = self.blobs.read(f"{evaluation_folder(evaluation)}/request.json")
        except FileNotFoundError:
            raise NotFound("The request of this evaluation is gone: send it again.") from None
        return read(EvaluationRequest, unseal(sealed, self.pseudonyms().keys))

    def write_report(self, report: EvaluationReport) -> None:
        """Returns when it would survive a power cut."""
        name = f"{evaluation_folder(report.id)}/report.json"
        self.blobs.write(name, report.model_dump_json().encode(), durable=True)

    def report(self, evaluation: str) -> EvaluationReport | None:
        if not _ID.fullmatch(evaluation):  # it becomes a path
            return None
        try:
            body = self.blobs.read(f"{evaluation_folder(evaluation)}/report.json")
        except FileNotFoundError:
            return None
        return read(EvaluationReport, body)

    def all(self) -> list[str]:
        """The ids of all that are known, in no special order."""
        return [name.rpartition("/")[2] for name in self.blobs.names("evaluations")]
