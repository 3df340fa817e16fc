"""Who may send by C-STORE: AE titles, each with the addresses from which it comes."""

import ipaddress
from dataclasses import dataclass

ANY = "*"
_LONGEST = 16  # characters of an AE title (PS3.5 6.2)


@dataclass(frozen=True)
class Peer:
    """`title` is ANY for all of them."""

    title: str
    network: ipaddress.IPv4Network | ipaddress.IPv6Network

    @classmethod
    def of(cls, text: str) -> "Peer":
        """Of TITLE@ADDRESS or TITLE@NETWORK/BITS. Raises ValueError."""
        title, _, address = text.rpartition("@")
        if not 0 < len(title) <= _LONGEST or not title.isascii() or not title.isprintable():
            raise ValueError("each must be TITLE@ADDRESS, where * is any title of a peer")
        try:
            return cls(title, ipaddress.ip_network(address))
        except ValueError:
            raise ValueError(
                "behind the @ there must be an IP address, or a network such as 10.1.0.0/16"
            ) from None

    def covers(self, address: str) -> bool:
        found = ipaddress.ip_address(address)
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return found in self.network


@dataclass(frozen=True)
class Peers:
    allowed: tuple[Peer, ...]

    @classmethod
    def of(cls, texts: tuple[str, ...]) -> "Peers":
        return cls(tuple(map(Peer.of, texts)))

    def cover(self, address: str) -> bool:
        """Whether somebody from there may send."""
        return any(peer.covers(address) for peer in self.allowed)

    def allow(self, title: str, address: str) -> bool:
        return any(peer.title in (ANY, title) and peer.covers(address) for peer in self.allowed)
