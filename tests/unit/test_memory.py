"""A worker keeps the memory that it frees."""

import subprocess
import sys

import pytest

from workers.memory import keep_freed_memory

FAULTS = """
import resource
from workers.memory import keep_freed_memory

keep_freed_memory()
for round in range(20):
    if round == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    picture, copy = b"a" * 2**20, b"b" * 2**20
    del picture, copy
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="another C library")
def test_memory_that_was_freed_is_not_asked_of_the_system_again() -> None:
    ran = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 16 * 2 * 256 / 4  # pages of all rounds, of which few may be new


def test_it_does_nothing_on_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("ctypes.CDLL", None)
    keep_freed_memory()
