"""The base of all messages."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Payload = dict[str, Any]

MAX_ID = 1000  # characters

# The payload's nested object with our own facts; a column of that name is renamed to source_.
RESERVED = "source"

ImageId = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
FieldName = Annotated[str, Field(min_length=1, max_length=1000)]


class Message(BaseModel):
    """Refuses unknown fields: a misspelt option must not be silently ignored."""

    # Errors end up in logs, and inputs can contain patients' data.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
