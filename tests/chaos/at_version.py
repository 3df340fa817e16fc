"""Runs a worker or the api of another checkout, the one in PYTHONPATH, with the stand-in of Qdrant.

    python tests/chaos/at_version.py workers | api [ARGUMENT…]

It is run as a file, so that nothing of this checkout is imported but the stand-in's client.
"""

import importlib.util
import os
import runpy
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def stand_in() -> Any:
    spec = importlib.util.spec_from_file_location("stand_in", HERE / "qdrant.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    sys.path.remove(str(HERE))  # its modules have names of packages
    sys.argv = sys.argv[1:]
    if sys.argv[0] == "workers":
        import pipeline.store.server as server

        client = stand_in().SharedClient
        server.connect = lambda *_: client(Path(os.environ["CHAOS_QDRANT"]))  # type: ignore[assignment]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
