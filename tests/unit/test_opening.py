"""How a worker claims its collection, and lets it go when it cannot open the store."""

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from pipeline.base.errors import EncoderMismatch, StoreUnavailable
from pipeline.base.settings import Settings
from pipeline.ledger import Ledgers
from tests.encoders import ENCODER
from tests.memory_ledger import memory_ledgers
from workers import opening

OTHER = ENCODER.model_copy(update={"model": "acme/other", "weights_sha256": "cd" * 32})

MODEL = SimpleNamespace(info=ENCODER, device="cpu", warm_up=lambda: None)


@pytest.fixture
def ledgers(monkeypatch: pytest.MonkeyPatch) -> Ledgers:
    """The ledger is real; the model is played."""
    ledgers = memory_ledgers()
    monkeypatch.setattr(opening, "Ledgers", lambda *_, **__: ledgers)
    monkeypatch.setattr(opening, "Encoder", SimpleNamespace(load=lambda _: MODEL))
    return ledgers


def open_with(folder: Path, **settings: Any) -> Any:
    return opening.open_runtime(Settings(data=folder, **settings), lambda lease: None)


def test_a_worker_that_cannot_open_the_store_gives_its_claim_back(
    ledgers: Ledgers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(options: Any, encoder: Any, claim: Any) -> None:
        claim()
        assert ledgers.of("kindred").claim_encoder("other", OTHER) == ENCODER
        raise StoreUnavailable("gone")

    monkeypatch.setattr(opening, "open_store", fail)
    with pytest.raises(StoreUnavailable):
        open_with(tmp_path)
    assert ledgers.of("kindred").claim_encoder("other", OTHER) is None


@pytest.mark.parametrize(("settings", "device"), [({}, "cpu"), ({"device": "cuda:3"}, "cuda3")])
def test_a_worker_is_called_after_its_device(
    settings: Any, device: str, ledgers: Ledgers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after what torch calls it: each process sees one card alone."""
    monkeypatch.setattr(opening, "open_store", lambda *_: MagicMock())
    monkeypatch.setattr(opening, "_context", lambda *_: SimpleNamespace(encoder=MODEL))
    monkeypatch.setattr(opening, "Probe", lambda _: None)
    runtime = open_with(tmp_path, processes=2, **settings)
    assert re.fullmatch(rf".+-{device}-{os.getpid()}-[0-9a-f]{{6}}", runtime.name)
    assert (runtime.processes, runtime.device.replace(":", "")) == (2, device)


def test_a_worker_is_refused_where_another_encoder_has_the_collection(
    ledgers: Ledgers, tmp_path: Path
) -> None:
    ledgers.of("kindred").claim_encoder("other", OTHER)
    with pytest.raises(EncoderMismatch) as caught:
        open_with(tmp_path)
    assert OTHER.model in str(caught.value)
    assert ENCODER.model in str(caught.value)
    assert not caught.value.retryable
