"""A deletion that is killed in the middle, and goes on: nothing is left that nobody would find."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.errors import NotFound
from pipeline.base.identity import point_id
from pipeline.lifecycle.deletion import Deletions, tombstone_key, tombstone_keys
from pipeline.messages import DeleteAsk, Deletion
from pipeline.operations.answers import Answers

POINT, UPLOAD = point_id("A"), "uploads/J/0"
ASK = DeleteAsk(id="0" * 36, wanted=Deletion(image_ids=("A",)), held=True)


class Killed(BaseException):
    """As far as the code can tell."""


class Store:
    """One image. `kill` says when the worker is to die, around the deletion from the store."""

    kill = ""

    def __init__(self) -> None:
        payload = {"image_id": "A", "source": {"blob": UPLOAD}}
        self.held: dict[UUID, Any] = {POINT: SimpleNamespace(id=POINT, payload=payload)}

    def retrieve(self, ids: list[UUID]) -> dict[UUID, Any]:
        return {i: self.held[i] for i in ids if i in self.held}

    def delete(self, ids: list[UUID]) -> None:
        if self.kill == "before":
            raise Killed
        for i in ids:
            self.held.pop(i, None)
        if self.kill == "after":
            raise Killed

    def flush(self) -> None: ...


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_a_killed_worker_had_begun_is_finished(tmp_path: Path, moment: str) -> None:
    store, blobs = Store(), Blobs(str(tmp_path))
    tombstones: Any = SimpleNamespace(add=lambda keys: None, watch=lambda deletion: None)
    fields: Any = SimpleNamespace(check_filter=lambda wanted: None)
    played: Any = store
    deletions = Deletions(played, blobs, tombstones, fields)
    others: Any = (None, played, blobs, None, fields)
    answers = Answers(*others, deletions)
    for name in (preview_name(POINT), UPLOAD):
        blobs.write(name, b"of a patient")

    store.kill = moment
    with pytest.raises(Killed):
        answers.delete(ASK)
    store.kill = ""
    receipt = answers.delete(ASK)  # by the next worker

    assert receipt.image_ids == ("A",)
    assert not store.held
    assert not blobs.exists(preview_name(POINT))
    assert not blobs.exists(UPLOAD)
    with pytest.raises(NotFound):
        answers.delete(ASK.model_copy(update={"id": "1" * 36}))


def test_each_of_several_identifiers_is_a_mark() -> None:
    marks = tombstone_keys("A", {"patient_id": ["P1", "P2"], "age": 3})
    assert marks == [
        tombstone_key("image_id", "A"),
        tombstone_key("patient_id", "P1"),
        tombstone_key("patient_id", "P2"),
    ]
