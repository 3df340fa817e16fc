"""Decides which encoders a comparison may load: KINDRED_MODELS names folders and models on the hub.

The api checks before it accepts a comparison, the worker again before it loads anything: a folder
can become a link elsewhere, and a name on the hub can be a folder where the worker runs.
"""

import os
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.base.errors import InvalidQuery

HUB = "hub:"

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


@dataclass(frozen=True)
class AllowedModels:
    """`folders` are real paths; `names` are patterns on the hub; `own` is KINDRED_MODEL itself."""

    folders: tuple[Path, ...]
    names: tuple[str, ...]
    own: str

    @classmethod
    def of(cls, entries: tuple[str, ...], own: str) -> "AllowedModels":
        """From ("/srv/models", "hub:facebook/*")."""
        names = tuple(entry.removeprefix(HUB) for entry in entries if entry.startswith(HUB))
        folders = (Path(entry) for entry in entries if not entry.startswith(HUB))
        return cls(tuple(each.expanduser().resolve() for each in folders), names, own)

    def check(self, model: str, path: tuple[str | int, ...] = ()) -> None:
        """`path` is where it stands in the request. Raises InvalidQuery, which says what to do."""
        if model == self.own:
            return
        if why := self._why_not(model):
            raise InvalidQuery(why, path)

    def check_here(self, model: str, path: tuple[str | int, ...] = ()) -> None:
        """As `check`, where it will be loaded."""
        self.check(model, path)
        if model != self.own and not model.startswith("/") and Path(model).exists():
            raise InvalidQuery("This name on the hub is also a file where the worker runs.", path)

    def _why_not(self, model: str) -> str | None:
        if "\0" in model or ".." in model.split("/"):
            return "The name contains characters that no model's name has."
        if model.startswith("/"):
            real = Path(os.path.realpath(model))
            if any(real.is_relative_to(folder) for folder in self.folders):
                return None
            return "This path is in no folder that KINDRED_MODELS allows."
        if not _HUB_NAME.fullmatch(model):
            return "Name a model on the hub, as org/name, or a folder by its absolute path."
        if any(fnmatchcase(model, name) for name in self.names):
            return None
        return "KINDRED_MODELS does not allow this model."
