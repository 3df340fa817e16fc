"""The base of all messages."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.base.errors import InvalidQuery

Payload = dict[str, Any]

MAX_ID = 1000  # characters

# The payload's nested object with our own facts; a column of that name is renamed to source_.
RESERVED = "source"

# In `source`: original numbers, for the viewer's link. No answer shows it.
SEALED = "sealed"

ImageId = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
FieldName = Annotated[str, Field(min_length=1, max_length=1000)]


class Message(BaseModel):
    """Refuses unknown fields: a misspelt option must not be silently ignored."""

    # Errors end up in logs, and inputs can contain patients' data.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


Read = TypeVar("Read", bound=BaseModel)


def read(model: type[Read], data: str | bytes) -> Read:
    """A message as another version may have written it: fields that we do not know are ignored.

    Except in a filter, where a condition that is ignored matches more than was asked for. Raises
    InvalidQuery for that, and ValidationError.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        if any("filter" in fault["loc"] for fault in faults):
            raise InvalidQuery(
                "This worker does not know a part of the filter. It may be older than the api.",
                ("filter",),
            ) from None
    return model.model_validate_json(data, extra="ignore")
