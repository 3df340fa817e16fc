"""How a worker claims its collection, and lets it go when it cannot open the store."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from pipeline.base.errors import EncoderMismatch, StoreUnavailable
from pipeline.base.identity import point_id
from pipeline.base.settings import Settings
from pipeline.ledger import Ledgers
from pipeline.messages import EncoderInfo
from pipeline.store import Points, open_store
from tests.encoders import ENCODER
from tests.memory_ledger import memory_ledgers
from workers import opening

OTHER = ENCODER.model_copy(update={"model": "acme/other", "weights_sha256": "cd" * 32})

# The same model, with its pixels made as an earlier version made them.
OLDER = SimpleNamespace(
    info=ENCODER.model_copy(update={"preprocessing": "by Pillow"}), device="cpu"
)
MODEL = SimpleNamespace(
    info=ENCODER, device="cpu", warm_up=lambda: None, ways=lambda: [MODEL, OLDER]
)


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


# --- a collection keeps to the way its pixels are made -------------------------------------------


@pytest.fixture
def opened(
    ledgers: Ledgers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[Any, Any]]:
    """Opens a worker. Returns its encoder and its store, which is real."""
    context = lambda _s, _l, _b, encoder, store, *_: SimpleNamespace(encoder=encoder, store=store)  # noqa: E731
    monkeypatch.setattr(opening, "_context", context)
    monkeypatch.setattr(opening, "Probe", lambda _: None)

    def open_() -> tuple[Any, Any]:
        runtime = open_with(tmp_path)
        runtime.decoders.close()
        return runtime.context.encoder, runtime.context.store

    return open_


def fill(folder: Path, encoder: EncoderInfo, images: int = 1) -> None:
    store = open_store(Settings(data=folder).store, encoder)
    vectors = np.ones((images, encoder.dimensions), np.float32)
    store.upsert(Points([point_id(str(n)) for n in range(images)], vectors, [{}] * images))
    store.close()


@pytest.mark.parametrize("made_by", [MODEL, OLDER], ids=["ours", "older"])
def test_a_filled_collection_is_opened_the_way_it_was_filled(
    made_by: Any, opened: Callable[[], tuple[Any, Any]], tmp_path: Path
) -> None:
    fill(tmp_path, made_by.info)
    for _ in range(2):
        encoder, store = opened()
        assert encoder is made_by
        assert store.encoder.identity == made_by.info.identity
        assert store.retrieve([point_id("0")])
        store.close()


def test_an_empty_collection_is_opened_our_way(
    opened: Callable[[], tuple[Any, Any]], tmp_path: Path
) -> None:
    fill(tmp_path, OLDER.info, images=0)
    encoder, store = opened()
    store.close()
    assert encoder is MODEL


def test_a_collection_of_another_encoder_is_refused_with_our_own_name(
    opened: Callable[[], tuple[Any, Any]], ledgers: Ledgers, tmp_path: Path
) -> None:
    fill(tmp_path, OTHER)
    with pytest.raises(EncoderMismatch) as caught:
        opened()
    assert ENCODER.preprocessing in str(caught.value)
    assert ledgers.of("kindred").claim_encoder("other", OTHER) is None, "no claim is left"


def test_a_worker_joins_an_older_one_that_has_an_empty_collection_open(
    opened: Callable[[], tuple[Any, Any]], ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def claimed(options: Any, encoder: EncoderInfo, claim: Any) -> Any:
        claim()
        return MagicMock(encoder=encoder)

    monkeypatch.setattr(opening, "open_store", claimed)
    assert ledgers.of("kindred").claim_encoder("older", OLDER.info) is None
    assert opened()[0] is OLDER
