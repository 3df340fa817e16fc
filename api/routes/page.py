"""The page for doctors: plain files that call the public api, and ask for a key where it does."""

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOLDER = Path(__file__).parents[1] / "page"

# The page needs nothing from elsewhere, so that nothing from elsewhere runs in it. `blob:` is the
# doctor's own picture, which the browser shows without sending it anywhere.
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
    # Asked for each time, by ETag: after an upgrade no old module meets a new one.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",  # the address names images
    "X-Content-Type-Options": "nosniff",
}


def mount(app: FastAPI) -> None:
    """Serves index.html at `/` and its parts under `/page`, all with the headers above."""
    app.mount("/page", _WithHeaders(StaticFiles(directory=FOLDER)))

    @app.get("/", include_in_schema=False)
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
