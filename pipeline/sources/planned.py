"""What a plan knows of a data set, written down for the workers that read it afterwards.

It lies beside the rows of a catalogue, and goes with them when the job has ended. A reader ignores
what it does not know, and manages without what is missing: another version may have written it.
"""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.base.blobs import Blobs, job_folder


def write_plan(blobs: Blobs, job: str, known: Mapping[str, Any]) -> None:
    blobs.write(_name(job), json.dumps(known).encode())


def read_plan(blobs: Blobs, job: str) -> dict[str, Any]:
    """Empty if there is none."""
    try:
        found = json.loads(blobs.read(_name(job)))
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}


def _name(job: str) -> str:
    return f"{job_folder(job)}/rows/plan.json"
