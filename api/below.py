"""Serves the app below a path, for a proxy that gives Kindred a part of its addresses."""

from starlette.datastructures import URL
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class BelowPath:
    """Takes calls with the path in front, and those from which the proxy has removed it.

    From here on every call has the path in `root_path` and in front of `path`, as ASGI wants it.
    """

    def __init__(self, app: ASGIApp, root: str) -> None:
        self._app, self._root = app, root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._root or scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == self._root:  # relative addresses on the page need the slash
            to_page = RedirectResponse(str(URL(scope=scope).replace(path=f"{self._root}/")))
            await to_page(scope, receive, send)
        else:
            await self._app(self._below(scope), receive, send)

    def _below(self, scope: Scope) -> Scope:
        missing = "" if scope["path"].startswith(f"{self._root}/") else self._root
        raw: bytes = scope.get("raw_path") or b""
        return {
            **scope,
            "root_path": self._root,
            "path": missing + scope["path"],
            "raw_path": missing.encode() + raw,
        }
