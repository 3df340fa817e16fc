"""Spares a worker what transformers would import of torch, and nothing here uses.

That is the compiler, and tensors that lie on several machines: a third of a worker's imports, for
functions that transformers marks for the one, and types that it takes from the other. Whoever asks
for the compiler nonetheless, as `torch.compile` does, gets it.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

import torch
import torch.compiler
import torch.distributed

COMPILER = "torch._dynamo"


def spare() -> None:
    """Holds for the whole process. To be called before anything of transformers is imported."""
    for mark in ("disable", "allow_in_graph"):
        setattr(torch.compiler, mark, _unmarked)
    if COMPILER not in sys.modules:
        sys.modules[COMPILER] = torch._dynamo = _Compiler.of(torch.__path__)
    # As in a build of torch without it, which transformers knows.
    torch.distributed.is_available = lambda: False


def _unmarked(function: Any = None, *_: object, **__: object) -> Any:
    """A decorator that leaves a function as it is, with or without arguments of its own."""
    return (lambda given: given) if function is None else function


class _Compiler(ModuleType):
    """In the compiler's place. Its parts can be imported, and for all else the real one comes."""

    allow_in_graph = staticmethod(_unmarked)
    assume_constant_result = staticmethod(_unmarked)

    @classmethod
    def of(cls, path: Sequence[str]) -> "_Compiler":
        module = cls(COMPILER)
        module.__spec__ = PathFinder.find_spec(COMPILER, path)
        assert module.__spec__ is not None  # noqa: S101 - torch has it
        module.__path__ = module.__spec__.submodule_search_locations or []
        return module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return getattr(importlib.import_module(COMPILER), name)
