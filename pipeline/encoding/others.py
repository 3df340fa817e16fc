"""Loads other encoders than the collection's, one at a time, to compare them with it."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from pipeline.base.allowed_models import AllowedModels
from pipeline.base.errors import EncoderError, InvalidQuery
from pipeline.base.settings import EncoderOptions
from pipeline.encoding import checkpoint
from pipeline.encoding.encoder import Encoder
from pipeline.encoding.preprocessing import Preprocessing
from pipeline.messages.comparisons import STORED, ModelChoice

Place = tuple[str | int, ...]  # of a choice, in the request

_LOOK_SECONDS = 0.5  # between two looks at whether a comparison that waits was cancelled

_ADAPTED = {
    "own": lambda own: own,
    "stretch": Preprocessing.stretched,
    "crop": Preprocessing.cropped,
}


@dataclass(frozen=True)
class OtherEncoders:
    """`options` are those of the worker's own encoder: the others run where it runs, as it does.

    A worker has room for one encoder more, so threads wait for each other.
    """

    options: EncoderOptions
    allowed: AllowedModels
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def find(self, choice: ModelChoice, place: Place) -> None:
        """Fetches its files if they are not here. Raises InvalidQuery, which names the encoder."""
        chosen = self._chosen(choice, place)
        with _named(choice, place):
            folder = checkpoint.folder_of(chosen.model, chosen.revision)
            checkpoint.configuration(folder, chosen.model)

    @contextmanager
    def opened(
        self, choice: ModelChoice, place: Place, check: Callable[[], None]
    ) -> Iterator[Encoder]:
        """The encoder, until the block ends. Raises InvalidQuery as `find` does.

        `check` is called while it waits for another thread's encoder, and may raise.
        """
        with self._turn(check):
            encoder = self._load(choice, place)
            try:
                yield encoder
            finally:
                encoder.close()
                del encoder
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()

    @contextmanager
    def _turn(self, check: Callable[[], None]) -> Iterator[None]:
        while not self._alone.acquire(timeout=_LOOK_SECONDS):
            check()
        try:
            check()
            yield
        finally:
            self._alone.release()

    def _load(self, choice: ModelChoice, place: Place) -> Encoder:
        chosen = self._chosen(choice, place)
        with _named(choice, place):
            encoder = Encoder.load(chosen, _ADAPTED[choice.preprocessing])
            encoder.warm_up()
        return encoder

    def _chosen(self, choice: ModelChoice, place: Place) -> EncoderOptions:
        own = choice.model == STORED
        model = self.options.model if own else choice.model
        self.allowed.check_here(model, place)
        revision = choice.revision or (self.options.revision if own else None)
        pooling = self.options.pooling if own and choice.pooling == "auto" else choice.pooling
        return replace(self.options, model=model, revision=revision, pooling=pooling)


@contextmanager
def _named(choice: ModelChoice, place: Place) -> Iterator[None]:
    try:
        yield
    except EncoderError as error:
        raise InvalidQuery(f"{choice.spelled} cannot be compared. {error}", place) from error
    except torch.OutOfMemoryError:
        why = f"{choice.spelled} does not fit into memory beside the collection's encoder."
        raise InvalidQuery(why, place) from None
