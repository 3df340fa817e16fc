"""Checks access in front of every call, before a byte of its body is read.

FastAPI reads the body before it runs dependencies, so there, a refusal would cost an upload. Also,
a route whose author forgot about access still needs a key.
"""

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.access import AccessControl
from api.audit import AuditLog, Entry
from api.origin import refuse_other_sites
from pipeline import metrics
from pipeline.base.errors import AuditUnavailable, KindredError, UnsupportedMedia

SIGN_IN = "/v1/session"

# Clients poll these twice a second while a job runs, and they name no image. So the audit log has
# them only if they were forbidden.
PROGRESS = frozenset({"/v1/jobs", "/v1/jobs/{job}", "/v1/jobs/{job}/events", SIGN_IN})


class Gate:
    """Guards `/v1` and `/metrics`. The page and the health checks are open: they show no data."""

    def __init__(self, app: ASGIApp, access: AccessControl, log: AuditLog, root: str) -> None:
        """`root` is the path below which the api is served."""
        self._app, self._access, self._log, self._root = app, access, log, root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _guarded(self._path(scope)):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        entry = request.state.entry = Entry()
        try:
            await run_in_threadpool(self._admit, request, entry)
            _refuse_compressed(request)
        except KindredError as error:
            await problems.of(error)(scope, receive, send)
            return
        await self._app(scope, receive, self._logging(scope, receive, entry, send))

    def _admit(self, request: Request, entry: Entry) -> None:
        if self._path(request.scope) == SIGN_IN and request.method in ("POST", "DELETE"):
            refuse_other_sites(request)
        else:
            request.state.caller = entry.caller = self._access.admit(request)

    def _logging(self, scope: Scope, receive: Receive, entry: Entry, send: Send) -> Send:
        """`send`, but it writes the log line first: no answer leaves without one."""
        failed = False

        async def logged(message: Message) -> None:
            nonlocal failed
            status = message["status"] if message["type"] == "http.response.start" else None
            if status is not None:
                _count(status)
            if status is not None and self._is_logged(scope, status):
                try:
                    line = entry.line(self._call(scope), scope["path_params"], status)
                    await run_in_threadpool(self._log.write, line)
                except AuditUnavailable as error:
                    failed = True
                    await problems.of(error)(scope, receive, send)
            if not failed:
                await send(message)

        return logged

    def _is_logged(self, scope: Scope, status: int) -> bool:
        """False for status 429: nothing was done, and a flood of calls must not fill a disk."""
        path = self._template(scope)
        progress = scope["method"] == "GET" and path in PROGRESS and status != 403
        return path.startswith("/v1/") and not progress and status != 429

    def _call(self, scope: Scope) -> str:
        return f"{scope['method']} {self._template(scope)}"

    def _template(self, scope: Scope) -> str:
        """The path template of the call, such as /v1/images/{image_id}; empty if no route matches.

        It is the same for all collections: a route knows its path without the prefix under which
        it was included.
        """
        path = str(getattr(scope.get("route"), "path", "")).replace(":any}", "}")
        return f"/v1{path}" if path and self._path(scope).startswith("/v1/") else path

    def _path(self, scope: Scope) -> str:
        path: str = scope["path"]
        return path.removeprefix(self._root)


def _count(status: int) -> None:
    kind = f"{status // 100}xx"
    metrics.count("kindred_http_responses_total", "Answers to callers by status", status=kind)


def _refuse_compressed(request: Request) -> None:
    """Raises UnsupportedMedia. Pictures are compressed already, and a bomb needs no place here."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if request.method == "POST" and encoding not in ("", "identity"):
        raise UnsupportedMedia("The body is compressed. Send it as it is, without encoding.")


def _guarded(path: str) -> bool:
    return path == "/metrics" or path == "/v1" or path.startswith("/v1/")
