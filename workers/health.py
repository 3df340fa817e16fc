"""`python -m workers.health`: does the worker of this host say that it lives? For containers."""

import socket
import sys

from pipeline.errors import LedgerUnavailable
from pipeline.ledger import Ledger
from pipeline.settings import Settings


def main() -> int:
    host = f"{socket.gethostname()}-"  # how the names of its workers begin
    try:
        workers = Ledger(Settings()).workers.alive()
    except LedgerUnavailable as error:
        print(error.title, file=sys.stderr)
        return 1
    return 0 if any(worker.name.startswith(host) for worker in workers) else 1


if __name__ == "__main__":
    sys.exit(main())
