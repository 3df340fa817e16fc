"""Which tombstones the lists of uploads may mention: a deletion need not read every list."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence

from pipeline.ledger.connection import reachable
from pipeline.ledger.script import Script

_DIGEST = 4  # characters, of three bytes: one key of 17 million is taken for another
_BEGUN = "!"  # the list is not compared with all tombstones yet
_PAGE = 500


class UploadLedger:
    """An upload is named by its folder. Every method raises LedgerUnavailable.

    About ten bytes of Redis for each file, as long as the upload has a list.
    """

    def __init__(self, script: Script) -> None:
        self._redis = script.redis
        self._mentions = script.key("uploads:mentions")
        self._fresh = script.key("tombstones:fresh")

    def add(self, upload: str, keys: Iterable[str], *, compared: bool) -> None:
        """Its list mentions these tombstone keys. Add it before it is `compared` with all
        tombstones, and again afterwards: a tombstone that is added meanwhile is then found."""
        text = digests_of(keys)
        with reachable():
            self._redis.hset(self._mentions, upload, text if compared else _BEGUN + text)

    def remove(self, upload: str) -> None:
        with reachable():
            self._redis.hdel(self._mentions, upload)

    def unknown(self, uploads: Sequence[str]) -> list[str]:
        """Those that were not added, or not compared."""
        found: list[str] = []
        for start in range(0, len(uploads), _PAGE):
            page = uploads[start : start + _PAGE]
            with reachable():
                texts = self._redis.hmget(self._mentions, page)
            pairs = zip(page, texts, strict=True)
            found += [one for one, text in pairs if text is None or text.startswith(_BEGUN)]
        return found

    def mentioning(self, keys: Iterable[str]) -> Iterator[str]:
        """Uploads whose lists mention one of the keys, and hardly another."""
        wanted = set(map(digest_of, keys))
        with reachable():
            for upload, text in self._redis.hscan_iter(self._mentions, count=_PAGE):
                if not wanted.isdisjoint(digests_in(text.removeprefix(_BEGUN))):
                    yield upload

    def fresh_tombstones(self) -> list[str]:
        """Those that were added since the lists were compared."""
        with reachable():
            return list(self._redis.sscan_iter(self._fresh, count=1000))

    def compared(self, keys: Sequence[str]) -> None:
        """No list says anything of these tombstones any more."""
        for start in range(0, len(keys), 1000):
            with reachable():
                self._redis.srem(self._fresh, *keys[start : start + 1000])


def digests_of(keys: Iterable[str]) -> str:
    """One text for all."""
    return "".join(sorted(set(map(digest_of, keys))))


def digest_of(key: str) -> str:
    return b64encode(bytes.fromhex(key[:6])).decode()


def digests_in(text: str) -> Iterator[str]:
    return (text[at : at + _DIGEST] for at in range(0, len(text), _DIGEST))
