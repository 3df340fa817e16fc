"""`python -m workers`."""

import gc
import sys

# What is imported now makes hundreds of thousands of objects that stay. To look through them for
# garbage, again and again while they become more, takes up to a second of every start.
gc.disable()

if __name__ == "__main__":
    from workers.service import main

    sys.exit(main())
