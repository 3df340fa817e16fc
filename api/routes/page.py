"""The page for doctors: plain files that call the public api, and sign in if it needs a key."""

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOLDER = Path(__file__).parents[1] / "page"

# The page needs nothing from other hosts, so nothing from other hosts may run in it. `blob:` is for
# the doctor's own picture, which the browser shows without sending it anywhere.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    # Browsers check the ETag each time, so after an upgrade they never mix old and new modules.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",  # the URL names images
    "X-Content-Type-Options": "nosniff",
}


def mount(app: FastAPI) -> None:
    """Serves index.html at `/` and its parts under `/page`, all with the headers above."""
    app.mount("/page", _WithHeaders(StaticFiles(directory=FOLDER)))

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(FOLDER / "index.html", headers=_HEADERS)


class _WithHeaders:
    def __init__(self, files: ASGIApp) -> None:
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        await self._files(scope, receive, add)
