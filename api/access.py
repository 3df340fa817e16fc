"""Access control: API keys, the page's sessions, roles, and rate limits."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from api.origin import refuse_other_names, refuse_other_sites
from pipeline.base.errors import Forbidden, LedgerUnavailable, RateLimited, Unauthorized
from pipeline.base.keys import Key, Keys, Role, includes
from pipeline.ledger import CallLedger, SessionLedger

COOKIE = "kindred_session"
SIGN_INS = 10  # attempts a minute from one address

_BEARER = HTTPBearer(auto_error=False, description="A key, as `kindred keys create` prints it")


@dataclass(frozen=True)
class Caller:
    """`id` and `name` are those of the caller's key."""

    id: str
    name: str
    role: Role

    @classmethod
    def of(cls, key: Key) -> "Caller":
        return cls(key.id, key.name, key.role)


# Without keys the api listens on the loopback address only. People at the machine may do anything.
LOCAL = Caller("local", "local", "admin")


@dataclass(frozen=True)
class AccessControl:
    """`rate_limit` is in calls per minute for each key; 0 means no limit."""

    keys: Keys
    sessions: SessionLedger
    calls: CallLedger
    rate_limit: int

    def admit(self, request: Request) -> Caller:
        """Raises Unauthorized, Forbidden or RateLimited; Unavailable if keys cannot be read."""
        if not self.keys.needed:
            refuse_other_names(request)
            refuse_other_sites(request)
            return LOCAL
        key = self._key_of(request)
        if key is None:
            raise Unauthorized("Send a valid key as 'Authorization: Bearer KEY', or sign in.")
        request.state.caller = Caller.of(key)
        if self.rate_limit and not _is_preview(request):
            self._count(key.id, self.rate_limit)
        return Caller.of(key)

    def still_admits(self, request: Request) -> bool:
        """For long answers: a key may be revoked, or a session may end, in the meantime."""
        return not self.keys.needed or self._key_of(request) is not None

    def sign_in(self, request: Request, given: str) -> tuple[Caller, str]:
        """The caller, and the token of the new session. Raises Unauthorized or RateLimited."""
        address = request.client.host if request.client else "unknown"
        self._count(f"sign-in:{address}", SIGN_INS)
        key = self.keys.find(given)
        if key is None:
            raise Unauthorized("This key is not valid.")
        return Caller.of(key), self.sessions.open(key.id)

    def sign_out(self, request: Request) -> Caller | None:
        """Whose session ended; None without one."""
        token = request.cookies.get(COOKIE)
        key = self._of_session(token) if token else None
        if token:
            self.sessions.close(token)
        return Caller.of(key) if key else None

    def _key_of(self, request: Request) -> Key | None:
        return self._by_header(request) or self._by_cookie(request)

    def _by_header(self, request: Request) -> Key | None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        return self.keys.find(given.strip()) if scheme.lower() == "bearer" else None

    def _by_cookie(self, request: Request) -> Key | None:
        """A session is valid only while its key is, so revoking a key ends its sessions."""
        token = request.cookies.get(COOKIE)
        if not token or "Authorization" in request.headers:
            return None
        key = self._of_session(token)
        if key is not None:
            request.state.caller = Caller.of(key)  # also of a call that is refused now
            refuse_other_sites(request, proof=True)
        return key

    def _of_session(self, token: str) -> Key | None:
        identifier = self.sessions.key_of(token)
        return self.keys.by_id(identifier) if identifier else None

    def _count(self, caller: str, most: int) -> None:
        try:
            calls, wait = self.calls.count(caller)
        except LedgerUnavailable:
            return  # the call itself will report this
        if calls > most:
            raise RateLimited(f"At most {most} calls a minute. Try again in {wait} seconds.", wait)


def require(role: Role) -> Any:
    """A dependency that requires a key of this role. Raises Forbidden."""

    async def check(request: Request, _: Annotated[object, Security(_BEARER)]) -> None:
        caller: Caller = request.state.caller  # set by the gate
        if not includes(caller.role, role):
            raise Forbidden(f"This needs a key of the role {role}; yours is {caller.role}.")

    return Depends(check)


def _is_preview(request: Request) -> bool:
    """The page shows dozens of previews at once. (%2Fpreview is the end of an image's id.)"""
    path = request.scope.get("raw_path") or request.scope["path"].encode()
    return request.method in ("GET", "HEAD") and bool(path.endswith(b"/preview"))
