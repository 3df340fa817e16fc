"""What all messages have in common."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Payload = dict[str, Any]

MAX_ID = 1000  # characters

RESERVED = "source"  # the payload's own nested object; a column of that name is kept as source_

ImageId = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
FieldName = Annotated[str, Field(min_length=1, max_length=1000)]


class Message(BaseModel):
    """Unknown fields are refused: a misspelt option must not be silently ignored."""

    # Errors end up in logs, and inputs can hold patients' data.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
