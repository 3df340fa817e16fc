"""The api, as methods. Every failure becomes a CommandError, one line that says what to do."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import quote

import httpx

from cli.documents import (
    Action,
    Document,
    ImagePage,
    Job,
    Rejection,
    Search,
    StoredImage,
    problem_line,
)
from cli.failure import CommandError, TooLarge, Unreachable
from pipeline.base.addresses import is_loopback

REJECTIONS_PAGE = 1000
SEARCH_WAIT = 10  # seconds that the server holds a search open before it answers 202
# An answer can take as long as the server may wait for a worker, and an upload as long as the line.
TIMEOUT = httpx.Timeout(60, connect=5)
BUSY_SECONDS = 90  # that a call is repeated for, as the server asks: its limit is by the minute
_AWAY = frozenset({502, 503, 504})

Part = tuple[str, tuple[str, Any, str]]  # (field, (file name, open file or bytes, media type))
EXPORT_PAGE = 500  # images a request: at 384 dimensions about 4 MB


class Client:
    """One api. `key` is sent as a bearer token."""

    def __init__(
        self, url: str, key: str | None = None, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/")
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

    def submit(self, source: Document) -> Job:
        return cast(Job, self._document("POST", "/v1/jobs", json=source))

    def upload(self, parts: Sequence[Part], metadata: Sequence[Document]) -> Job:
        """One job for several files; `metadata` has one object a file."""
        data = {"metadata": json.dumps(list(metadata))}
        return cast(Job, self._document("POST", "/v1/images", files=list(parts), data=data))

    def jobs(self) -> list[Job]:
        return cast(list[Job], self._document("GET", "/v1/jobs")["jobs"])

    def job(self, job_id: str) -> Job:
        return cast(Job, self._document("GET", _job_path(job_id)))

    def act(self, job_id: str, action: Action) -> Job:
        return cast(Job, self._document("POST", f"{_job_path(job_id)}/{action}"))

    def rejections(self, job_id: str) -> Iterator[Rejection]:
        """All of them, a page at a time."""
        given: dict[str, int | str] = {"limit": REJECTIONS_PAGE}
        while True:
            page = self._document("GET", f"{_job_path(job_id)}/rejections", params=given)
            yield from page["rejections"]
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
        return cast(ImagePage, self._document("GET", "/v1/images", params=params))

    def all_images(self, filter_: Document | None = None) -> Iterator[StoredImage]:
        """Every one with its vector, page by page."""
        cursor: str | None = None
        while True:
            page = self.images(filter_, EXPORT_PAGE, cursor, vectors=True)
            yield from page["images"]
            cursor = page["cursor"]
            if cursor is None:
                return

    def preview(self, image_id: str) -> bytes:
        return self._call("GET", f"/v1/images/{quote(image_id, safe='')}/preview").content

    def collection(self) -> Document:
        """How many images are held, and what embedded them."""
        return self._document("GET", "/v1/collection")

    def stream(self, path: str) -> Iterator[bytes]:
        """A long answer, part by part."""
        with self._http.stream("GET", path) as response:
            if not response.is_success:
                response.read()
                raise self._refusal(response)
            yield from response.iter_bytes()

    def facets(self, filter_: Document | None = None) -> Document:
        """How many images fit, and the values they have."""
        params = {} if filter_ is None else {"filter": json.dumps(filter_)}
        return self._document("GET", "/v1/facets", params=params)

    def search(self, query: Document, images: Sequence[Path] = ()) -> Search:
        """The finished search. One that failed is a CommandError."""
        if not images:
            return self._searched("/v1/searches", json=query)
        # A file's name can hold a patient's, and is of no use to the server.
        files = [
            ("image", (f"image{image.suffix.lower()}", _read(image), "application/octet-stream"))
            for image in images
        ]
        return self._searched("/v1/searches", files=files, data={"query": json.dumps(query)})

    def delete(self, wanted: Document) -> Document:
        """The receipt, once all is gone."""
        return self._settled("/v1/deletions", "/v1/deletions", "deletion", json=wanted)

    def lift(self, deletion: str) -> Document:
        return self._document("POST", f"/v1/deletions/{quote(deletion, safe='')}/lift")

    def batch(self, searches: Sequence[Document]) -> Search:
        """Several at once; `results` has a list for each."""
        return self._searched("/v1/searches/batch", json={"searches": list(searches)})

    def _searched(self, path: str, **body: Any) -> Search:
        return cast(Search, self._settled(path, "/v1/searches", "search", **body))

    def _settled(self, path: str, kept: str, what: str, **body: Any) -> Document:
        """What was asked for at `path`, fetched from below `kept` until it is settled."""
        headers = {"Prefer": f"wait={SEARCH_WAIT}"}
        response = self._call("POST", path, headers=headers, **body)
        found = _object(response)
        while found["state"] in ("queued", "running"):
            time.sleep(_retry_after(response))
            response = self._call("GET", f"{kept}/{quote(found['id'], safe='')}")
            found = _object(response)
        if found["state"] != "succeeded":
            raise CommandError(problem_line(found.get("error"), f"the {what} has failed"))
        return found

    # --- HTTP ------------------------------------------------------------------------------------

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
        if response.status_code in _AWAY:
            return Unreachable(line)
        return TooLarge(line) if response.status_code == 413 else CommandError(line)


def _host(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise CommandError(f"{url} is not a URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise CommandError(f"{url} is not the URL of an api, as in http://127.0.0.1:8000")
    return parsed.host


def _job_path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _object(response: httpx.Response) -> Document:
    try:
        document = response.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise CommandError(f"what answers at {response.url} is not Kindred")
    return document


def _retry_after(response: httpx.Response) -> float:
    """Seconds to wait, as the server asks, within reason."""
    try:
        asked = float(response.headers.get("Retry-After", "0.5"))
    except ValueError:
        asked = 0.5
    return min(max(asked, 0.2), 5)


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise CommandError(f"{image} cannot be read: {error.strerror}") from error
