"""Where a file goes when its batch has ended: to `done` or `failed` in the watched folder."""

from pathlib import Path, PurePosixPath

DONE, FAILED = "done", "failed"
REASON = ".reason.txt"


def move(root: Path, path: str, reason: str | None) -> None:
    """Within the folder, so it is one step: after a kill, the file is in one place or the other.

    `reason` says why it has failed, and is written beside it. Raises OSError.
    """
    target = free(root / (DONE if reason is None else FAILED) / path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if reason is not None:
        target.with_name(target.name + REASON).write_text(f"{reason}\n", "utf-8")
    (root / path).rename(target)


def free(target: Path) -> Path:
    """The path, or `a (2).jpg` and so on: another file of this name may have come before."""
    name, number, found = PurePosixPath(target.name), 2, target
    while found.exists() or found.is_symlink():
        found = target.with_name(f"{name.stem} ({number}){name.suffix}")
        number += 1
    return found
