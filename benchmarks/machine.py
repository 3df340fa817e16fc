"""Describes the machine without revealing its location, and measures how busy it is."""

import os
import platform
import time
from pathlib import Path

import torch

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def kind() -> str:
    """What Kindred computes with: "gpu", or a processor's kind, by its instructions."""
    if torch.cuda.is_available():
        return "gpu"
    able = torch.cpu.get_capabilities()
    return "cpu with bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "cpu"


def describe() -> dict[str, str]:
    """The description has no host names and no paths."""
    able = torch.cpu.get_capabilities()
    found = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if able.get(name)]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "cpu": _cpu(),
        "cores": str(cores()),
        "memory": f"{_memory_gib():.0f} GiB",
        "gpu": gpu,
        "instructions": ", ".join(found) or "unknown",
        "kind": kind(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads by default",
        "load before": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def memory_mib(pid: int) -> tuple[float, float]:
    """A process's own memory and its mapped files; zeros if there is no /proc."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
    return kib.get("RssAnon", 0) / 1024, kib.get("RssFile", 0) / 1024


def busy_seconds() -> float | None:
    """The processor time that the whole machine has spent, including what a hypervisor took.

    None if that is unknown, or if we may use only some of the cores.
    """
    stat = Path("/proc/stat")
    if not stat.exists() or os.cpu_count() != cores():
        return None
    user, nice, system, _idle, _wait, irq, soft, steal = map(
        int, stat.read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + soft + steal) / _TICK


class Others:
    """The share of the cores that other processes take, from its creation on."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._busy, self._ours = busy_seconds(), cpu_seconds(os.getpid())

    def share(self) -> float | None:
        """The share of all cores, 0 to 1."""
        busy, ours = busy_seconds(), cpu_seconds(os.getpid())
        if busy is None or ours is None or self._busy is None or self._ours is None:
            return None
        spent = (busy - self._busy) - (ours - self._ours)
        return max(0.0, spent / (time.perf_counter() - self._start) / cores())


def cpu_seconds(root: int) -> float | None:
    """The processor time of a process and all its descendants, including ended ones. None if there
    is no /proc."""
    if not Path("/proc/self/stat").exists():
        return None
    children: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        pid = int(stat.parent.name)
        children.setdefault(int(fields[1]), []).append(pid)
        own_and_of_children_that_ended = map(int, fields[11:15])
        spent[pid] = sum(own_and_of_children_that_ended) / _TICK
    total, pending = 0.0, [root]
    while pending:
        pid = pending.pop()
        total += spent.get(pid, 0.0)
        pending += children.get(pid, [])
    return total
