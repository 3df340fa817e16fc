"""What /openapi.json says of every call: its name, an example, and the problems that it can answer.

Which problems can come follows from the call itself. A route names only what it adds.
"""

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api import examples, problems

_BELOW = "/v1/collections/{collection}/"

# Calls that differ from what `_refusals` finds: the first three need no role or no key.
_OTHERWISE: dict[str, set[int]] = {
    "is_alive": set(),
    "is_ready": {503},
    "get_metrics": {401, 403, 429, 503},
    "open_study": {503},
    "sign_out": {403, 422, 503},
}


def name_of(route: APIRoute) -> str:
    """The operationId. It names a method in clients that are generated from the document."""
    below = route.path_format.startswith(_BELOW)
    return f"{route.name}_in_collection" if below else route.name


def install(app: FastAPI) -> None:
    """Completes the document that FastAPI makes, once, when it is first asked for."""
    made: Callable[[], dict[str, Any]] = app.openapi
    complete = False

    def openapi() -> dict[str, Any]:
        nonlocal complete
        document = made()
        if not complete:
            for path, method, operation in _operations(document):
                _complete(path, method, operation)
            complete = True
        return document

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    name = operation["operationId"].removesuffix("_in_collection")
    responses: dict[str, Any] = operation["responses"]
    found = _OTHERWISE.get(name, _refusals(path, method, operation))
    responses.pop("422", None)  # FastAPI's own form of it
    responses |= {str(k): v for k, v in problems.documented(*sorted(found)).items()}
    _add_examples(name, operation)


def _refusals(path: str, method: str, operation: dict[str, Any]) -> set[int]:
    """The statuses of the problems that any call of this form can answer."""
    found = {401, 403, 422, 429, 503}
    if "requestBody" in operation:
        found |= {400, 413}
    if method == "post":
        found.add(415)
    if "{" in path:
        found.add(404)
    return found


def _add_examples(name: str, operation: dict[str, Any]) -> None:
    example = examples.EXAMPLES.get(name, examples.Example())
    content = operation.get("requestBody", {}).get("content", {})
    for kind, value in example.request.items():
        content[kind]["example"] = value
    for status, value in example.answers.items():
        for each in operation["responses"][status]["content"].values():
            each["example"] = value
    for status, kinds in example.typed.items():
        for kind, value in kinds.items():
            operation["responses"][status]["content"][kind]["example"] = value
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in examples.PARAMETERS:
            parameter["example"] = examples.PARAMETERS[parameter["name"]]
