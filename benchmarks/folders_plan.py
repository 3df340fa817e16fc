"""Plans a folder of pictures, then reads and hashes its rows, in a process of its own.

    python -m benchmarks.folders_plan FOLDER      one JSON document

`FOLDER/tree` is planned into `FOLDER/blobs`. It imports no model, whose memory would hide the rest.
"""

import json
import sys
import time
from pathlib import Path

from pipeline.base.blobs import Blobs
from pipeline.base.identity import sha256
from pipeline.sources.folder.reader import FolderReader, Pictures, plan_folder


def main() -> None:
    folder = Path(sys.argv[1])
    wanted, blobs = Pictures(folder / "tree", ()), Blobs(str(folder / "blobs"))
    before, begun, spent = _peak_mib(), time.perf_counter(), time.process_time()
    catalogue = plan_folder(wanted, blobs, "job")
    planned, cpu = time.perf_counter() - begun, time.process_time() - spent
    plan_mib = _peak_mib() - before
    begun = time.perf_counter()
    for row in FolderReader(wanted, catalogue).read(0, catalogue.rows):
        sha256(row.data)
    told = {
        "plan_seconds": planned,
        "plan_cpu_seconds": cpu,
        "plan_mib": plan_mib,
        "hash_seconds": time.perf_counter() - begun,
        "hash_mib": _peak_mib() - before - plan_mib,
    }
    print(json.dumps(told))


def _peak_mib() -> float:
    """The most that this process has had so far; `getrusage` counts what its parent had as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
