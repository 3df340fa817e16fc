"""`python -m tests.chaos.api`: the api of a fleet whose clock can jump."""

import sys

from tests.chaos.clock import shift_clock

if __name__ == "__main__":
    shift_clock()
    from api.__main__ import main

    sys.exit(main())
