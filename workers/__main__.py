"""`python -m workers`."""

import gc
import sys

# The imports create hundreds of thousands of objects that stay. The garbage collector would search
# them again and again while they grow, for up to a second of every start.
gc.disable()

if __name__ == "__main__":
    from workers.service import main

    sys.exit(main())
