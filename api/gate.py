"""Checks access in front of every call, before a byte of its body is read.

FastAPI reads the body before it runs dependencies, so there, a refusal would cost an upload. Also,
a route whose author forgot about access still needs a key.
"""

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.access import AccessControl
from api.audit import AuditLog, Entry
from api.body import Body, BodyRefused
from api.origin import refuse_other_sites
from pipeline import metrics
from pipeline.base.errors import AuditUnavailable, BadRequest, KindredError, UnsupportedMedia

SIGN_IN = "/v1/session"
MOST_SIGN_IN = 4_096  # bytes of a body that anybody may send

# Clients poll these twice a second while a job runs, and they name no image. So the audit log has
# them only if they were forbidden, or went wrong.
PROGRESS = frozenset(
    {
        "/v1/jobs", "/v1/jobs/{job}", "/v1/jobs/{job}/events", "/v1/jobs/{job}/drift",
        "/v1/evaluations", "/v1/evaluations/{evaluation}", "/v1/comparisons",
        "/v1/comparisons/{comparison}", "/v1/label-audits/{audit}", SIGN_IN,
    }
)  # fmt: skip

# Anybody can attempt to sign in, and only what is an attempt is logged: the limit for an address
# holds for these.
ATTEMPTED = frozenset({204, 401, 500, 503})

# What the log says of a call that was refused before its route was known. A path can hold anything.
RESOURCES = frozenset(
    {
        "backup", "collection", "collections", "comparisons", "deletions", "evaluations",
        "explanations", "facets", "images", "jobs", "label-audits", "opened", "pseudonyms",
        "quarantine",
        "renderings", "searches",
    }
)  # fmt: skip


# Where DICOMweb is served, beside `/v1/collections/{collection}`.
STOW = "/dicom-web/"


def is_stow(path: str) -> bool:
    """Whether instances are sent there, perhaps of a whole study."""
    return f"{STOW}studies" in path


class Gate:
    """Guards `/v1`, `/dicom-web` and `/metrics`. The page and the health checks show no data.

    Every error that nobody expected is answered here, so that no answer goes past the audit log.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: AccessControl,
        log: AuditLog,
        root: str,
        most: int,
        most_stow: int,
    ) -> None:
        """`root` is the path below which the api is served, `most` the largest body in bytes.

        `most_stow` is that of a STOW-RS request, which is never in memory as a whole.
        """
        self._app, self._access, self._log, self._root = app, access, log, root
        self._most, self._most_stow = most, most_stow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        entry = request.state.entry = Entry()
        body = Body(receive, request.headers, self._most_of(request))
        logged = self._logging(scope, body, entry, send)
        try:
            if self._guards(scope):
                if self._access.keys.needed:
                    await run_in_threadpool(self._admit, request, entry)
                else:  # it asks nobody
                    self._admit(request, entry)
                _refuse_compressed(request)
                _refuse_two_lengths(request)
            await self._app(scope, body, logged)
        except KindredError as error:
            await problems.of(error)(scope, receive, logged)
        except Exception as error:
            if body.answered and not isinstance(error.__cause__, BodyRefused):
                raise
            if not body.answered:
                await _last_resort(error)(scope, receive, logged)

    def _admit(self, request: Request, entry: Entry) -> None:
        if self._signs_in(request):
            refuse_other_sites(request)
            return
        try:
            request.state.caller = self._access.admit(request)
        finally:  # whose key it is, is also known of calls that are refused
            entry.caller = getattr(request.state, "caller", None)

    def _logging(self, scope: Scope, body: Body, entry: Entry, send: Send) -> Send:
        """`send`, but it writes the log line first: no answer leaves without one."""
        failed = False

        async def logged(message: Message) -> None:
            nonlocal failed
            if message["type"] == "http.response.start" and self._guards(scope):
                status = message["status"]
                _count(status)
                try:
                    await self._write(scope, entry, status)
                except AuditUnavailable as error:
                    failed = body.answered = True
                    await problems.of(error)(scope, body, send)
            body.answered = True
            if not failed:
                await send(message)

        return logged

    async def _write(self, scope: Scope, entry: Entry, status: int) -> None:
        """Raises AuditUnavailable."""
        if self._is_logged(scope, entry, status):
            line = entry.line(self._call(scope), scope.get("path_params", {}), status)
            await run_in_threadpool(self._log.write, line)

    def _is_logged(self, scope: Scope, entry: Entry, status: int) -> bool:
        """Nothing of unknown callers but attempts to sign in: a flood must not fill a disk.

        For the same reason nothing with status 429. Nothing was done there.
        """
        path, method = self._template(scope), scope["method"]
        if not path.startswith(("/v1/", STOW)) or status == 429:
            return False
        if entry.caller is None:
            return method == "POST" and path == SIGN_IN and status in ATTEMPTED
        return method != "GET" or path not in PROGRESS or status in (403, 500)

    def _call(self, scope: Scope) -> str:
        return f"{scope['method']} {self._template(scope)}"

    def _template(self, scope: Scope) -> str:
        """The path template of the call, such as /v1/images/{image_id}.

        It is the same for all collections: a route knows its path without the prefix under which
        it was included. Of a path below /v1 that has not reached a route, its beginning.
        """
        path = str(getattr(scope.get("route"), "path", "")).replace(":any}", "}")
        if self._path(scope).startswith(STOW):
            return path or f"{STOW}…"
        if not f"{self._path(scope)}/".startswith("/v1/"):
            return path
        return f"/v1{path}" if path else _beginning(self._path(scope))

    def _guards(self, scope: Scope) -> bool:
        path = self._path(scope)
        return path in ("/metrics", "/v1") or path.startswith(("/v1/", STOW))

    def _signs_in(self, request: Request) -> bool:
        return self._path(request.scope) == SIGN_IN and request.method in ("POST", "DELETE")

    def _most_of(self, request: Request) -> int:
        if self._signs_in(request):
            return MOST_SIGN_IN
        return self._most_stow if is_stow(self._path(request.scope)) else self._most

    def _path(self, scope: Scope) -> str:
        path: str = scope["path"]
        return path.removeprefix(self._root)


def _last_resort(error: Exception) -> Response:
    """Starlette hides a refusal behind another error if the answer was just about to begin."""
    if isinstance(error.__cause__, BodyRefused):
        return problems.response(error.__cause__.problem)
    return problems.unexpected(error)


def _beginning(path: str) -> str:
    """Of /v1/searches/… its resource, if that is one; never more, which could be anything."""
    name, _, more = path.removeprefix("/v1/").partition("/")
    if path == SIGN_IN:
        return SIGN_IN
    return f"/v1/{name}{'/…' if more else ''}" if name in RESOURCES else "/v1/…"


def _count(status: int) -> None:
    kind = f"{status // 100}xx"
    metrics.count("kindred_http_responses_total", "Answers to callers by status", status=kind)


def _refuse_compressed(request: Request) -> None:
    """Raises UnsupportedMedia. Pictures are compressed already, and a bomb needs no place here."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if request.method == "POST" and encoding not in ("", "identity"):
        raise UnsupportedMedia("The body is compressed. Send it as it is, without encoding.")


def _refuse_two_lengths(request: Request) -> None:
    """Raises BadRequest. A proxy in front may believe the other one (request smuggling)."""
    if "Content-Length" in request.headers and "Transfer-Encoding" in request.headers:
        raise BadRequest("It has two lengths: Content-Length and Transfer-Encoding.")
