"""The name of a worker, in the ledger and in Flower: HOST-DEVICE-PROCESS-LETTERS."""

import os
import socket
from uuid import uuid4


def short(device: str) -> str:
    """`cuda:1` as a part of a name."""
    return device.replace(":", "")


def name_worker(device: str) -> str:
    """A name that no other worker has or will have."""
    return f"{socket.gethostname()}-{short(device)}-{os.getpid()}-{uuid4().hex[:6]}"


def is_of_this_host(name: str) -> bool:
    """Other hosts can have names that begin with this one's and a hyphen."""
    return name.rsplit("-", 3)[0] == socket.gethostname()
