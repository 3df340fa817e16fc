"""The page's sign-in: takes a key once, then sets a cookie that no script can read."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from api.access import COOKIE, require
from api.audit import EntryDep
from api.services import Services, ServicesDep
from pipeline.base.keys import Role
from pipeline.ledger.sessions import SESSION_SECONDS
from pipeline.messages import Message

router = APIRouter(prefix="/session", tags=["session"])


class SignIn(Message):
    key: str = Field(min_length=1, max_length=500, repr=False)


class SessionView(BaseModel):
    """Who is signed in. Without `keys`, anyone at this machine may do anything."""

    role: Role
    name: str
    keys: bool


@router.post("", status_code=204)
def sign_in(body: SignIn, request: Request, services: ServicesDep, entry: EntryDep) -> Response:
    """Sets a cookie for twelve hours, or until the key is revoked."""
    response = Response(status_code=204)
    if services.access.keys.needed:
        entry.caller, token = services.access.sign_in(request, body.key)
        response.set_cookie(
            COOKIE,
            token,
            max_age=SESSION_SECONDS,
            path=_cookie_path(services),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",  # a trusted proxy's word, if there is a proxy
        )
    return response


@router.delete("", status_code=204)
def sign_out(request: Request, services: ServicesDep, entry: EntryDep) -> Response:
    entry.caller = services.access.sign_out(request)
    response = Response(status_code=204)
    path = _cookie_path(services)
    response.delete_cookie(COOKIE, path, httponly=True, samesite="strict")
    return response


@router.get("", name="get_session", dependencies=[require("search")])
def signed_in(request: Request, services: ServicesDep) -> SessionView:
    caller = request.state.caller
    return SessionView(role=caller.role, name=caller.name, keys=services.access.keys.needed)


def _cookie_path(services: Services) -> str:
    """What else the proxy serves does not get the cookie."""
    return f"{services.settings.root_path}/"
