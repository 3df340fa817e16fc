"""What a data set's message selects. Readers take this in place of the message."""

from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class Selection:
    """Which rows of which data set, and which columns are the images and their ids.

    Without `split`, it is train, or the only one; without `config`, the default or only one.
    """

    dataset: str
    split: str | None = None
    revision: str | None = None
    limit: int | None = None
    image_column: str | None = None
    id_column: str | None = None
    config: str | None = None

    @classmethod
    def of(cls, source: Any) -> Self:
        """From a message that has these fields, and perhaps others."""
        return cls(**{field.name: getattr(source, field.name) for field in fields(cls)})
