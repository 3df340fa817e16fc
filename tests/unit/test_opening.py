"""How a worker claims its collection, and lets it go when it cannot open the store."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.base.errors import EncoderMismatch, StoreUnavailable
from pipeline.base.settings import Settings
from pipeline.ledger import Ledgers
from tests.encoders import ENCODER
from tests.memory_ledger import memory_ledgers
from workers import opening

OTHER = ENCODER.model_copy(update={"model": "acme/other", "weights_sha256": "cd" * 32})


@pytest.fixture
def ledgers(monkeypatch: pytest.MonkeyPatch) -> Ledgers:
    """The ledger is real; the model is played."""
    ledgers = memory_ledgers()
    model = SimpleNamespace(info=ENCODER, warm_up=lambda: None)
    monkeypatch.setattr(opening, "Ledgers", lambda *_, **__: ledgers)
    monkeypatch.setattr(opening, "Encoder", SimpleNamespace(load=lambda _: model))
    return ledgers


def open_with(folder: Path) -> Any:
    return opening.open_runtime(Settings(data=folder), lambda lease: None)


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


def test_a_worker_is_refused_where_another_encoder_has_the_collection(
    ledgers: Ledgers, tmp_path: Path
) -> None:
    ledgers.of("kindred").claim_encoder("other", OTHER)
    with pytest.raises(EncoderMismatch) as caught:
        open_with(tmp_path)
    assert OTHER.model in str(caught.value)
    assert ENCODER.model in str(caught.value)
    assert not caught.value.retryable
