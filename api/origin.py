"""Where a call comes from, as far as a browser says it. What is no browser says nothing.

A page of another site can make a browser send calls here, and the browser adds our cookie or, on
the loopback address, simply reaches us. It cannot make the browser lie about where they come from.
"""

from urllib.parse import SplitResult, urlsplit

from fastapi import Request

from pipeline.base.addresses import is_loopback
from pipeline.base.errors import Forbidden

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # methods that change nothing


def from_our_page(request: Request) -> bool | None:
    """None where nothing says; a browser's word, where there is one."""
    site = request.headers.get("Sec-Fetch-Site")  # sent to https and loopback addresses only
    if site is not None:
        return site in ("same-origin", "none")  # none: the person's own doing, no page's
    origin = request.headers.get("Origin")
    if origin is None:
        return None
    return _parts(origin).netloc.lower() == request.headers.get("Host", "").lower()


def refuse_other_sites(request: Request, *, proof: bool = False) -> None:
    """Raises Forbidden for a change that another site's page asks for.

    With `proof`, also where nothing says who asks: for calls that a cookie alone would let in.
    """
    if request.method in SAFE:
        return
    ours = from_our_page(request)
    if ours is False or (proof and ours is None):
        raise Forbidden("This call comes from a page of another site.")


def refuse_other_names(request: Request) -> None:
    """Raises Forbidden unless we were called by a name of this machine.

    Any site can let its own name point to 127.0.0.1, and is the same site then (DNS rebinding).
    """
    host = _parts(f"//{request.headers.get('Host', '')}").hostname or ""
    if not is_loopback(host):
        raise Forbidden(
            "Without keys this api answers under a name of this machine only, as in"
            " http://127.0.0.1:8000. `kindred keys create` makes a key."
        )


def _parts(address: str) -> SplitResult:
    """Of nothing, where it is no address: anyone can send any text in a header."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")
