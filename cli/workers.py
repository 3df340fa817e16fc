"""`kindred worker`: one worker process for each device of this host, and what keeps them up."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import typer

from cli.failure import CommandError, WrongSetting, printable
from cli.processes import Program, module_command, module_environment
from cli.supervisor import Stop, Supervisor
from cli.warm import Warm, WarmChild
from pipeline.base.errors import ConfigurationError
from pipeline.base.settings import Settings, load_settings

# Seconds in which a worker ends its batch. Docker kills the container after `stop_grace_period` of
# two minutes; before that we kill what hangs, and say what it was.
STOP_SECONDS = {"worker": 110.0}
# Seconds for Python and torch to be loaded; a driver that hangs takes longer.
COUNT_SECONDS = 120.0

# In a process of its own: this one stays small, and CUDA does not start in it. Where NVML can tell,
# torch starts CUDA nowhere and counts a card that is broken.
_COUNT_CARDS = "import torch; print(torch.cuda.device_count())"


def run_workers() -> None:
    """Returns when a signal asked it to stop and all have stopped.

    Raises WrongSetting if a worker ends with exit code 78, after stopping all others: they have the
    same settings, and whoever started us learns by our exit code that somebody must act.
    """
    settings = settings_of_environment()
    with Stop() as stop:
        supervisor = Supervisor(stop, say, STOP_SECONDS)
        programs = worker_programs(settings, module_environment(os.environ))
        with Warm(programs[0]) as warm:
            try:
                for program in programs:
                    supervisor.add(WarmChild(program, warm))
                supervisor.keep_up_until(lambda: False)
            finally:
                supervisor.stop_all()


def settings_of_environment() -> Settings:
    try:
        return load_settings()
    except ConfigurationError as error:
        raise WrongSetting("; ".join(error.problems)) from error


def worker_programs(
    settings: Settings, environment: Mapping[str, str], logs: Path | None = None
) -> list[Program]:
    """A worker for each device, called after it. `logs`: the folder for their output, if not ours.

    Raises WrongSetting, and CommandError if nobody can say which cards there are.
    """
    devices = devices_of(settings)
    processes = {"KINDRED_PROCESSES": str(len(devices))}
    return [
        Program(
            name,
            module_command("workers"),
            {**environment, **processes, "KINDRED_DEVICE": device},
            logs / f"{name}.log" if logs else None,
        )
        for name, device in zip(_names(devices), devices, strict=True)
    ]


def devices_of(settings: Settings) -> Sequence[str]:
    """What `auto` means here is asked only where there can be several workers."""
    devices = settings.devices
    if devices == ("auto",):
        devices = (settings.device,)
        if settings.qdrant_url and settings.device in ("auto", "cuda"):
            devices = tuple(f"cuda:{n}" for n in range(count_cards())) or devices
    if len(devices) > 1 and not settings.qdrant_url:
        raise WrongSetting(
            f"KINDRED_DEVICES names {len(devices)} devices, but only one process can open the "
            "embedded store: name one, or set KINDRED_QDRANT_URL"
        )
    return devices


def _names(devices: Sequence[str]) -> Iterator[str]:
    """worker, if it is the only one; else worker-cuda0, worker-cpu, worker-cpu-2."""
    seen: Counter[str] = Counter()
    for device in devices:
        seen[device] += 1
        again = f"-{seen[device]}" if seen[device] > 1 else ""
        yield f"worker-{device.replace(':', '')}{again}" if len(devices) > 1 else "worker"


def count_cards() -> int:
    """How many cards CUDA would show to a process with our environment."""
    command = [sys.executable, "-P", "-c", _COUNT_CARDS]
    try:
        told = subprocess.run(
            command,
            env=os.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COUNT_SECONDS,
            check=True,
            start_new_session=True,  # a terminal's Ctrl-C is for us
        )
        return int(told.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise CommandError(
            f"torch cannot say which cards there are ({error}); name them in KINDRED_DEVICES"
        ) from error


def say(line: str) -> None:
    """Beside the workers' log lines. A closed pipe is no reason to end."""
    try:
        typer.echo(f"kindred: {printable(line)}", err=True)
    except OSError:
        return
