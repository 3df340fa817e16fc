"""Checks the origin of a call, which browsers state and other clients do not.

A page of another site can make a browser send calls here. The browser then adds our cookie or, on
the loopback address, simply reaches us. The page cannot make the browser lie about the origin.
"""

from urllib.parse import SplitResult, urlsplit

from fastapi import Request

from pipeline.base.addresses import is_loopback
from pipeline.base.errors import Forbidden

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # methods that change nothing


def from_our_page(request: Request) -> bool | None:
    """Whether the browser says that our page sent the call; None if no header says."""
    site = request.headers.get("Sec-Fetch-Site")  # sent to https and loopback addresses only
    if site is not None:
        return site in ("same-origin", "none")  # none: the user's own action, not a page's
    origin = request.headers.get("Origin")
    if origin is None:
        return None
    return _parts(origin).netloc.lower() == request.headers.get("Host", "").lower()


def refuse_other_sites(request: Request, *, proof: bool = False) -> None:
    """Raises Forbidden for a change that a page of another site requests.

    With `proof`, also if no header says where the call comes from: for calls that only a cookie
    authorizes.
    """
    if request.method in SAFE:
        return
    ours = from_our_page(request)
    if ours is False or (proof and ours is None):
        raise Forbidden("This call comes from a page of another site.")


def refuse_other_names(request: Request) -> None:
    """Raises Forbidden unless the call addresses this machine by a local name.

    Any site can point its own name to 127.0.0.1, and then counts as the same site (DNS rebinding).
    """
    host = _parts(f"//{request.headers.get('Host', '')}").hostname or ""
    if not is_loopback(host):
        raise Forbidden(
            "Without keys this api answers only under a local name, such as"
            " http://127.0.0.1:8000. `kindred keys create` makes a key."
        )


def _parts(address: str) -> SplitResult:
    """The parts of a URL; empty if it is none: anyone can send any text in a header."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")
