"""Who can reach an address. Imports nothing heavy: the command line must start fast."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. Names other than localhost could be anything."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
