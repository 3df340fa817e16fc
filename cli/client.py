"""The api, as methods. Every failure becomes a CommandError, one line that says what to do."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import quote

import httpx

from cli.documents import (
    Action,
    Collection,
    Deletion,
    Document,
    Evaluation,
    ImagePage,
    Job,
    Rejection,
    Search,
    StoredImage,
    problem_line,
)
from cli.failure import CommandError, Missing, TooLarge, Unreachable, UsageError
from pipeline.base.addresses import is_loopback

REJECTIONS_PAGE = 1000
EXPORT_PAGE = 500  # images a request: at 384 dimensions about 4 MB
SEARCH_WAIT = 10  # seconds that the server holds a search open before it answers 202
# The server may wait as long for a worker before it answers, and an upload is as slow as the line.
TIMEOUT = httpx.Timeout(60, connect=5)
BUSY_SECONDS = 90  # how long a request is repeated, as the server says: its limit is by the minute
_UNAVAILABLE = frozenset({502, 503, 504})
_BY_STATUS = {404: Missing, 413: TooLarge}

Part = tuple[str, tuple[str, Any, str]]  # (field, (file name, open file or bytes, media type))


def connect(url: str, collection: str | None = None) -> "Client":
    """Sends the key in KINDRED_API_KEY. Without `collection`, it is of the default one."""
    return Client(url, os.environ.get("KINDRED_API_KEY"), collection=collection)


class Client:
    """One collection of one api. `key` is sent as a bearer token."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        transport: httpx.BaseTransport | None = None,
        *,
        collection: str | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._prefix = _collection_path(collection) if collection else "/v1"
        self.host = _host(self.url)
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=TIMEOUT,
            transport=transport,
            # A hospital's proxy would answer for 127.0.0.1, and not as this machine does.
            trust_env=not is_loopback(self.host),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    # --- jobs ------------------------------------------------------------------------------------

    def submit(self, source: Document, options: Document, key: str | None = None) -> Job:
        """`options` are those of the job: `dry_run`, `replace_metadata`.

        With a `key`, what was submitted with it before is not started again.
        """
        path = self._path("jobs")
        given = {"json": source, "params": options, "headers": _idempotency(key)}
        return cast(Job, self._document("POST", path, **given))

    def upload(
        self,
        parts: Sequence[Part],
        metadata: Sequence[Document],
        account: Document,
        options: Document,
        key: str | None = None,
    ) -> Job:
        """One job for several files; `metadata` has one object a file.

        `account` has the files that are `rejected` or `skipped` and not sent. `key` is as of
        `submit`.
        """
        # A form without a file would be sent as something else.
        fields = {"metadata": json.dumps(list(metadata)), "account": json.dumps(account)}
        texts = [(name, (None, text, "application/json")) for name, text in fields.items()]
        path = self._path("images")
        given = {"files": [*parts, *texts], "params": options, "headers": _idempotency(key)}
        return cast(Job, self._document("POST", path, **given))

    def jobs(self, states: Sequence[str] = ()) -> list[Job]:
        """The newest, in these states or in any."""
        given = {"state": list(states)} if states else {}
        return cast(list[Job], self._document("GET", self._path("jobs"), params=given)["jobs"])

    def job(self, job_id: str) -> Job:
        return cast(Job, self._document("GET", self._path("jobs", job_id)))

    def act(self, job_id: str, action: Action) -> Job:
        return cast(Job, self._document("POST", self._path("jobs", job_id, action)))

    def rejections(self, job_id: str) -> Iterator[Rejection]:
        """All of them, a page at a time."""
        return cast(Iterator[Rejection], self._listed(job_id, "rejections"))

    def skipped(self, job_id: str) -> Iterator[Document]:
        """All files that are no rows of a job, a page at a time."""
        return self._listed(job_id, "skipped")

    def deidentification(self, job_id: str) -> Document:
        return self._document("GET", self._path("jobs", job_id, "deidentification"))

    def rotate_pseudonyms(self) -> Document:
        return self._document("POST", self._path("pseudonyms", "rotate"))

    def hidden_names(self, names: Sequence[str]) -> list[list[str]]:
        """For each name what lists call it, under each key."""
        path = self._path("pseudonyms", "names")
        found: list[list[str]] = self._document("POST", path, json={"names": list(names)})["names"]
        return found

    def _listed(self, job_id: str, what: str) -> Iterator[Document]:
        path = self._path("jobs", job_id, what)
        given: dict[str, int | str] = {"limit": REJECTIONS_PAGE}
        while True:
            page = self._document("GET", path, params=given)
            yield from page[what]
            if page.get("cursor") is None:
                return
            given["cursor"] = page["cursor"]

    # --- images ----------------------------------------------------------------------------------

    def images(
        self,
        filter_: Document | None = None,
        limit: int = 50,
        cursor: str | None = None,
        *,
        vectors: bool = False,
    ) -> ImagePage:
        params: dict[str, str | int] = {"limit": limit}
        if vectors:
            params["vectors"] = "true"
        if filter_ is not None:
            params["filter"] = json.dumps(filter_)
        if cursor:
            params["cursor"] = cursor
        return cast(ImagePage, self._document("GET", self._path("images"), params=params))

    def all_images(self, filter_: Document | None = None) -> Iterator[StoredImage]:
        """Every one with its vector, page by page."""
        cursor: str | None = None
        while True:
            page = self.images(filter_, EXPORT_PAGE, cursor, vectors=True)
            yield from page["images"]
            cursor = page["cursor"]
            if cursor is None:
                return

    def image(self, image_id: str) -> StoredImage:
        return cast(StoredImage, self._document("GET", self._path("images", image_id)))

    def preview(self, image_id: str) -> bytes:
        """A JPEG."""
        return self._call("GET", self._path("images", image_id, "preview")).content

    def collection(self) -> Document:
        """How many images are indexed, and what embedded them."""
        return self._document("GET", self._path("collection"))

    def readiness(self) -> Document:
        """What of the system is away. Of an api that is not ready as well."""
        response = self._send("GET", "/readyz")
        found = _object(response)
        if "broker" not in found:
            raise self._refusal(response)
        return {**found, "status": "ready" if response.is_success else "not ready"}

    def collections(self) -> list[Collection]:
        """All that the api serves, whichever one this client is of."""
        return cast(list[Collection], self._document("GET", "/v1/collections")["collections"])

    def backup(self, part: str) -> Iterator[bytes]:
        """The collection's `ledger`, `keys` or `blobs`, piece by piece as they arrive."""
        with self._http.stream("GET", self._path("backup", part)) as response:
            if not response.is_success:
                response.read()
                raise self._refusal(response)
            yield from response.iter_bytes()

    def facets(self, filter_: Document | None = None) -> Document:
        """How many images fit, and the values they have."""
        params = {} if filter_ is None else {"filter": json.dumps(filter_)}
        return self._document("GET", self._path("facets"), params=params)

    def search(self, query: Document, images: Sequence[Path] = ()) -> Search:
        """The finished search. One that failed is a CommandError."""
        return cast(Search, self._asked("searches", query, images))

    def explain(self, query: Document, images: Sequence[Path] = ()) -> Document:
        """The finished explanation of why two pictures match; likewise."""
        return self._asked("explanations", query, images)

    def _asked(self, resource: str, query: Document, images: Sequence[Path]) -> Document:
        if not images:
            return self._answered(resource, json=query)
        files = [_part(image) for image in images]
        return self._answered(resource, files=files, data={"query": json.dumps(query)})

    def rendering(self, image: Path, frame: int | None = None) -> bytes:
        """A JPEG of a picture that the server does not keep; of DICOM, of one frame."""
        data = {"shown": json.dumps({} if frame is None else {"frame": frame})}
        given = {"files": [_part(image)], "data": data}
        return self._call("POST", self._path("renderings"), **given).content

    # --- evaluations -----------------------------------------------------------------------------

    def evaluate(self, wanted: Document) -> Evaluation:
        """Starts it; `evaluation` says how far it has come."""
        return _evaluation(self._document("POST", self._path("evaluations"), json=wanted))

    def evaluation(self, identifier: str) -> Evaluation:
        """Its report, once it has succeeded."""
        return _evaluation(self._document("GET", self._path("evaluations", identifier)))

    def evaluations(self) -> list[Evaluation]:
        """The newest, without their reports."""
        found = self._document("GET", self._path("evaluations"))["evaluations"]
        return [_evaluation(each) for each in found]

    def compare(self, wanted: Document) -> Evaluation:
        """Starts a comparison of encoders; `comparison` says how far it has come."""
        return _comparison(self._document("POST", self._path("comparisons"), json=wanted))

    def comparison(self, identifier: str) -> Evaluation:
        """Its report, once it has succeeded."""
        return _comparison(self._document("GET", self._path("comparisons", identifier)))

    # --- deletions -------------------------------------------------------------------------------

    def delete(self, wanted: Document) -> Deletion:
        """Starts it; `deletion` says how far it has come."""
        return _deletion(self._document("POST", self._path("deletions"), json=wanted))

    def deletion(self, identifier: str) -> Deletion:
        """Its receipt, once it has succeeded."""
        return _deletion(self._document("GET", self._path("deletions", identifier)))

    def undelete(self, identifier: str) -> Document:
        """The receipt of the deletion whose tombstones are removed."""
        return self._document("POST", self._path("deletions", identifier, "lift"))

    def batch(self, searches: Sequence[Document]) -> Search:
        """Several at once; `results` has a list for each."""
        found = self._answered("searches", "batch", json={"searches": list(searches)})
        return cast(Search, found)

    def _answered(self, resource: str, *path: str, **body: Any) -> Document:
        """What a request to `resource` starts, fetched until it is finished."""
        headers = {"Prefer": f"wait={SEARCH_WAIT}"}
        response = self._call("POST", self._path(resource, *path), headers=headers, **body)
        found = _object(response)
        while found["state"] in ("queued", "running"):
            time.sleep(_retry_after(response))
            response = self._call("GET", self._path(resource, found["id"]))
            found = _object(response)
        if found["state"] != "succeeded":
            raise CommandError(problem_line(found.get("error"), "the search has failed"))
        return found

    # --- quarantine ------------------------------------------------------------------------------

    def quarantine(self, action: str, wanted: Document) -> Document:
        """`release`, `refuse` or `allow`."""
        return self._document("POST", self._path("quarantine", action), json=wanted)

    def quarantined_picture(self, image_id: str) -> bytes:
        """A PNG."""
        return self._call("GET", self._path("quarantine", image_id, "picture")).content

    # --- HTTP ------------------------------------------------------------------------------------

    def get(self, *path: str, **params: str | int) -> Document:
        """The answer of any call of the collection, as in `get("facets")`."""
        return self._document("GET", self._path(*path), params=params)

    def post(self, *path: str, body: Document) -> Document:
        """The same, of a call that starts something."""
        return self._document("POST", self._path(*path), json=body)

    def _path(self, *parts: str) -> str:
        return "/".join((self._prefix, *(quote(part, safe="") for part in parts)))

    def _document(self, method: str, path: str, **given: Any) -> Document:
        return _object(self._call(method, path, **given))

    def _call(self, method: str, path: str, **given: Any) -> httpx.Response:
        give_up = time.monotonic() + BUSY_SECONDS
        while True:
            response = self._send(method, path, **given)
            if response.is_success:
                return response
            if response.status_code != 429 or time.monotonic() > give_up:
                raise self._refusal(response)
            time.sleep(_retry_after(response))

    def _send(self, method: str, path: str, **given: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **given)
        except httpx.ConnectError as error:
            hint = "; start one with `kindred up`" if is_loopback(self.host) else f" ({error})"
            raise Unreachable(f"no Kindred answers at {self.url}{hint}") from error
        except httpx.TimeoutException as error:
            raise Unreachable(f"{self.url} did not answer in time") from error
        except httpx.TransportError as error:
            raise Unreachable(f"the connection to {self.url} broke: {error}") from error

    def _refusal(self, response: httpx.Response) -> CommandError:
        fallback = f"{self.url} answered {response.status_code} {response.reason_phrase}"
        try:
            line = problem_line(response.json(), fallback)
        except (ValueError, AttributeError, TypeError):  # not a problem+json: a proxy's page
            line = fallback
        if response.status_code == 401:
            return CommandError(f"{line} For this command, set KINDRED_API_KEY.")
        if response.status_code in _UNAVAILABLE:
            return Unreachable(line)
        return _BY_STATUS.get(response.status_code, CommandError)(line)


def _host(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UsageError(f"{url} is not a URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError(f"{url} is not the URL of an api, as in http://127.0.0.1:8000")
    return parsed.host


def _idempotency(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Idempotency-Key": key}


def _collection_path(name: str) -> str:
    return f"/v1/collections/{quote(name, safe='')}"


def _deletion(document: Document) -> Deletion:
    """As a job: the api does not repeat at this address which operation it is."""
    return cast(Deletion, {"operation": "delete", **document})


def _evaluation(document: Document) -> Evaluation:
    return cast(Evaluation, {"operation": "evaluate", **document})


def _comparison(document: Document) -> Evaluation:
    return cast(Evaluation, {"operation": "compare", **document})


def _object(response: httpx.Response) -> Document:
    try:
        document = response.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise CommandError(f"what answers at {response.url} is not Kindred")
    return document


def _retry_after(response: httpx.Response) -> float:
    """Seconds to wait, as the server says, within reason."""
    try:
        seconds = float(response.headers.get("Retry-After", "0.5"))
    except ValueError:
        seconds = 0.5
    return min(max(seconds, 0.2), 5)


def _part(image: Path) -> Part:
    """A file's name can hold a patient's, and is of no use to the server."""
    return ("image", (f"image{image.suffix.lower()}", _read(image), "application/octet-stream"))


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise CommandError(f"{image} cannot be read: {error.strerror}") from error
