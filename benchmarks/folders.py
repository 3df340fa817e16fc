"""`python -m benchmarks.folders` measures what planning a folder of many small files costs.

It makes folders of a thousand files each, without metadata, with one table at the root, and with a
sidecar beside each picture. Planning is what a job does before its first row: the walk, the first
bytes of every file, tables and sidecars, and the list of rows in the blobs. A second job over the
same folder plans again, and reads and hashes every file; it embeds nothing. Each variant and size
is measured in its own process, whose memory has then seen nothing else. The files were just
written, so the system has them in memory; a network share is as slow as it is.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from benchmarks import machine
from benchmarks.report import Goal, number, table

SIZES = (10_000, 100_000)
VARIANTS = ("no metadata", "a table", "sidecars")
A_FOLDER = 1000  # pictures
FILE_BYTES = 1500
GOAL_SECONDS, GOAL_FILES, GOAL_MIB = 30.0, 100_000, 50.0
_COLUMNS = "file_name,image_id,lesion_id,dx,dx_type,age,sex,localization"


@dataclass(frozen=True)
class Planned:
    """What one variant costs. Memory is what the process takes more, at most, than before."""

    variant: str
    pictures: int
    files: int
    plan_seconds: float
    plan_cpu_seconds: float
    plan_mib: float
    hash_seconds: float  # reading and hashing all rows
    hash_mib: float

    @property
    def files_per_second(self) -> float:
        return self.files / self.plan_seconds


_COLUMNS_OF: dict[str, Callable[[Planned], float]] = {
    "plan, s": lambda each: each.plan_seconds,
    "- of a core, s": lambda each: each.plan_cpu_seconds,
    "- files a second": lambda each: each.files_per_second,
    "- MiB more": lambda each: each.plan_mib,
    "read and hash, s": lambda each: each.hash_seconds,
    "- MiB more still": lambda each: each.hash_mib,
}


@dataclass(frozen=True)
class Folders:
    measured: list[Planned]

    def __str__(self) -> str:
        head = ["folder", "pictures", *_COLUMNS_OF]
        rows = [
            [each.variant, f"{each.pictures:,}", *(number(of(each)) for of in _COLUMNS_OF.values())]
            for each in self.measured
        ]
        goals = "\n".join(f"- {goal}" for goal in self.goals())
        return f"{goals}\n\n{table(head, rows)}\n\n{self._row_of_a_table()}"

    def goals(self) -> list[Goal]:
        """Of the largest folders, without what a table takes, which grows with its rows."""
        found = []
        for each in self.measured:
            if each.pictures >= GOAL_FILES:
                what = f"{each.pictures:,} pictures, {each.variant}"
                found.append(Goal(f"{what}: plan, s", each.plan_seconds, GOAL_SECONDS, False))
                if each.variant != "a table":
                    found.append(Goal(f"{what}: MiB more", each.plan_mib, GOAL_MIB, False))
        return found

    def _row_of_a_table(self) -> str:
        largest = {each.variant: each for each in self.measured}
        with_table, without = largest["a table"], largest["no metadata"]
        row = (with_table.plan_mib - without.plan_mib) * 2**20 / with_table.pictures
        return f"A row of the table takes {number(row)} bytes of memory while the job is planned."

    @classmethod
    def measure(cls, sizes: Sequence[int] = SIZES) -> Self:
        return cls([_measured(variant, size) for variant in VARIANTS for size in sizes])


def _measured(variant: str, size: int) -> Planned:
    with tempfile.TemporaryDirectory(prefix="kindred-folders-") as folder:
        make(Path(folder, "tree"), size, variant)
        command = [sys.executable, "-m", "benchmarks.folders_plan", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        files = size * (2 if variant == "sidecars" else 1) + (variant == "a table")
        return Planned(variant, size, files, **json.loads(done.stdout))


def make(root: Path, pictures: int, variant: str) -> None:
    """Files that begin as JPEGs, each with other bytes."""
    begin = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
    rows = [_COLUMNS]
    for number_ in range(pictures):
        folder = root / f"{number_ // A_FOLDER:04}"
        if number_ % A_FOLDER == 0:
            folder.mkdir(parents=True)
        name = f"ISIC_{number_:07}"
        (folder / f"{name}.jpg").write_bytes(begin + str(number_).encode().ljust(FILE_BYTES, b"x"))
        if variant == "sidecars":
            said = {"meta": {"clinical": {"age_approx": number_ % 90, "sex": "female"}}}
            (folder / f"{name}.json").write_text(json.dumps({"isic_id": name, **said}))
        rows.append(
            f"{folder.name}/{name}.jpg,{name},HAM_{number_:07},nv,histo,{number_ % 90},female,back"
        )
    if variant == "a table":
        (root / "metadata.csv").write_text("\n".join(rows) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folders")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="pictures")
    parser.add_argument("--out", type=Path, default=Path("build/folders.json"))
    arguments = parser.parse_args()
    described = machine.describe()
    found = Folders.measure(arguments.sizes)
    print(table(["measured on", ""], [list(pair) for pair in described.items()]))
    print(f"\n{found}")
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps({"machine": described, **asdict(found)}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
