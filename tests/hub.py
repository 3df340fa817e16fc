"""A stand-in for the hub on loopback: what its client libraries call to fetch a model or data set.

It has repositories with revisions, asks for a token where one is gated, and breaks off downloads.
"""

import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_made_up_for_tests"

_API = re.compile(r"/api/(?P<kind>datasets|models)/(?P<name>[^/]+/[^/]+)(?:/(?P<rest>.*))?")
_FILE = re.compile(r"/(?:(?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<rest>.+)")

_FETCHED = re.compile(r"GET /(?:datasets/)?[^/]+/[^/]+/resolve/[^/]+/(?P<path>.+)")


@dataclass
class Repository:
    """`commits` are files by path, by commit; `branches` lead to commits. `gated` is a status."""

    kind: str
    name: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: int | None = None

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Makes these the files of a branch. Returns the commit."""
        found = hashlib.sha1(f"{self.name} {len(self.commits)}".encode()).hexdigest()  # noqa: S324
        self.commits[found] = files
        self.branches[branch] = found
        return found

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


class Hub:
    """Use as a context manager. `cuts` says how often a file's download breaks off half-way."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.cuts: Counter[str] = Counter()
        self.calls: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """The hub is gone: nothing answers there any more. It may be gone already."""
        self._server.shutdown()
        self._server.server_close()

    def fetched(self, since: int = 0) -> Counter[str]:
        """How often each file was fetched, by its path; `since` is how many calls came before."""
        found = map(_FETCHED.fullmatch, self.calls[since:])
        return Counter(call["path"] for call in found if call)

    def add(self, kind: str, name: str, files: dict[str, bytes], **options: Any) -> Repository:
        made = self.repositories[kind, name] = Repository(kind, name, **options)
        made.commit(files)
        return made


class Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_POST(self) -> None:
            self._answer(body=True)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def _answer(self, *, body: bool) -> None:
            parts = urlsplit(self.path)
            path, options = unquote(parts.path), parse_qs(parts.query)
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            hub.calls.append(f"{self.command} {path}")
            try:
                if called := _API.fullmatch(path):
                    deep = options.get("recursive", ["false"])[0].lower() == "true"
                    self._send_json(self._api(called, sent, deep=deep))
                elif called := _FILE.fullmatch(path):
                    self._send_file(called, body=body)
                else:
                    raise Refused(404, "EntryNotFound")
            except Refused as error:
                self._send(error.status, b"{}", {"X-Error-Code": error.code}, body=body)

        def _repository(self, called: re.Match[str]) -> Repository:
            found = hub.repositories.get((called["kind"] or "models", called["name"]))
            if found is None:
                raise Refused(401, "RepoNotFound")
            if found.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise Refused(found.gated, "GatedRepo")
            return found

        def _api(self, called: re.Match[str], sent: bytes, *, deep: bool) -> Any:
            repository = self._repository(called)
            what, _, rest = (called["rest"] or "revision/main").partition("/")
            revision, _, folder = rest.partition("/")
            commit, files = _files(repository, revision)
            if what == "paths-info":
                wanted = _paths(sent)
                return [entry for entry in _entries(files) if entry["path"] in wanted]
            if what == "tree":
                found = _below(files, folder, deep=deep)
                if folder and not found:
                    raise Refused(404, "EntryNotFound")
                return found
            siblings = [{"rfilename": path} for path in files]
            return {"id": repository.name, "sha": commit, "siblings": siblings}

        def _send_file(self, called: re.Match[str], *, body: bool) -> None:
            repository = self._repository(called)
            revision, _, path = called["rest"].partition("/")
            commit, files = _files(repository, revision)
            if path not in files:
                raise Refused(404, "EntryNotFound")
            content = files[path]
            start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
            headers = {
                "ETag": f'"{_oid(content)}"',
                "X-Repo-Commit": commit,
                "Accept-Ranges": "bytes",
                "X-Linked-Size": str(len(content)),
            }
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            cut = body and hub.cuts[path] > 0
            if cut:
                hub.cuts[path] -= 1
            self._send(206 if start else 200, content[start:], headers, body=body, cut=cut)

        def _send_json(self, document: Any) -> None:
            headers = {"Content-Type": "application/json"}
            self._send(200, json.dumps(document).encode(), headers, body=True)

        def _send(
            self,
            status: int,
            content: bytes,
            headers: dict[str, str],
            *,
            body: bool,
            cut: bool = False,
        ) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection = cut

    return Handler


def _files(repository: Repository, revision: str) -> tuple[str, dict[str, bytes]]:
    commit = repository.resolve(revision)
    if commit is None:
        raise Refused(404, "RevisionNotFound")
    return commit, repository.commits[commit]


def _paths(sent: bytes) -> list[str]:
    try:
        found: list[str] = json.loads(sent)["paths"]
    except ValueError:
        found = re.findall(r"paths=([^&]*)", unquote(sent.decode()))
    return found


def _entries(files: dict[str, bytes]) -> list[Any]:
    """All files and folders, as the hub describes them."""
    folders = {path[:n] for path in files for n, char in enumerate(path) if char == "/"}
    return [
        *({"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders),
        *({"type": "file", "path": path, "oid": _oid(content), "size": len(content)}
          for path, content in files.items()),
    ]  # fmt: skip


def _below(files: dict[str, bytes], folder: str, *, deep: bool) -> list[Any]:
    prefix = f"{folder}/" if folder else ""
    below = [entry for entry in _entries(files) if entry["path"].startswith(prefix)]
    return [entry for entry in below if deep or "/" not in entry["path"].removeprefix(prefix)]


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()  # noqa: S324
