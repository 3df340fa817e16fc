"""Says who can reach an address. It imports nothing heavy: the command line must start fast."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. Any name but localhost could lead elsewhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
