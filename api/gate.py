"""In front of every call: who calls is known before a byte of its body is read.

FastAPI reads a body before it asks its dependencies, so what is refused here would cost an upload
there. And a route that is added without a thought about access still needs a key.
"""

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.access import AccessControl
from api.audit import AuditLog, Entry
from api.origin import refuse_other_sites
from pipeline.base.errors import AuditUnavailable, KindredError

SIGN_IN = "/v1/session"

# Asked for twice a second while a job runs, and naming no image: in the audit log if refused only.
PROGRESS = frozenset({"/v1/jobs", "/v1/jobs/{job}", "/v1/jobs/{job}/events", SIGN_IN})


class Gate:
    """Guards `/v1` and `/metrics`; the page and the health checks are open, and hold nothing."""

    def __init__(self, app: ASGIApp, access: AccessControl, log: AuditLog) -> None:
        self._app, self._access, self._log = app, access, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _guarded(scope["path"]):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        entry = request.state.entry = Entry()
        try:
            await run_in_threadpool(self._admit, request, entry)
        except KindredError as error:
            await problems.of(error)(scope, receive, send)
            return
        await self._app(scope, receive, self._logging(scope, receive, entry, send))

    def _admit(self, request: Request, entry: Entry) -> None:
        if request.scope["path"] == SIGN_IN and request.method in ("POST", "DELETE"):
            refuse_other_sites(request)
        else:
            request.state.caller = entry.caller = self._access.admit(request)

    def _logging(self, scope: Scope, receive: Receive, entry: Entry, send: Send) -> Send:
        """`send`, with the line written first: no answer leaves that the log does not know of."""
        failed = False

        async def logged(message: Message) -> None:
            nonlocal failed
            if message["type"] == "http.response.start" and _is_logged(scope, message["status"]):
                try:
                    line = entry.line(_call(scope), scope["path_params"], message["status"])
                    await run_in_threadpool(self._log.write, line)
                except AuditUnavailable as error:
                    failed = True
                    await problems.of(error)(scope, receive, send)
            if not failed:
                await send(message)

        return logged


def _guarded(path: str) -> bool:
    return path == "/metrics" or path == "/v1" or path.startswith("/v1/")


def _is_logged(scope: Scope, status: int) -> bool:
    """Not what was put off with 429: nothing was done, and a flood of it must not fill a disk."""
    path = _template(scope)
    progress = scope["method"] == "GET" and path in PROGRESS and status != 403
    return path.startswith("/v1/") and not progress and status != 429


def _call(scope: Scope) -> str:
    return f"{scope['method']} {_template(scope)}"


def _template(scope: Scope) -> str:
    """The call's path, as in /v1/images/{image_id}; nothing where there is no such route.

    It is the same for all collections: a route knows its path without the prefix that it was
    included under.
    """
    path = str(getattr(scope.get("route"), "path", "")).replace(":any}", "}")
    return f"/v1{path}" if path and scope["path"].startswith("/v1/") else path
