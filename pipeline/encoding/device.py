"""Resolves `auto` on this machine: the device, the precision, and how work is divided."""

import os
from dataclasses import dataclass

import torch

from pipeline.base.errors import DeviceMissing, EncoderError
from pipeline.base.settings import Device, Dtype, EncoderOptions

# A CPU with these instructions computes bfloat16. Others emulate it, more slowly than float32.
_BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")

# At the end of a job a lane idles for half a shard on average: an eighth of its work.
SHARDS_A_LANE = 4


@dataclass(frozen=True)
class Sizing:
    """How a worker divides bulk work on this device."""

    batch_size: int  # images a forward pass
    lanes: int  # threads that embed shards at once
    shard_size: int  # rows a shard, at most

    def shard_size_for(self, total: int) -> int:
        """Rows a shard, for a job of `total` rows: whole batches, and some shards for every lane.

        Otherwise a small job would run in one lane, and any job's last shards would leave lanes
        idle.
        """
        fair = -(-total // (SHARDS_A_LANE * self.lanes))
        batches = -(-fair // self.batch_size)
        return min(self.shard_size, max(1, batches) * self.batch_size)


def hide_other_cards(wanted: Device) -> None:
    """Lets CUDA show this process the card N of `cuda:N` alone. Call it before CUDA starts.

    CUDA does not start in a process that sees a broken card, so all workers would end of one.
    Raises EncoderError if CUDA_VISIBLE_DEVICES has no such card.
    """
    if not wanted.startswith("cuda:"):
        return
    number = int(wanted.removeprefix("cuda:"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    cards = visible.split(",") if visible is not None else [str(n) for n in range(number + 1)]
    if number >= len(cards):
        raise EncoderError(f"{wanted} is not among the cards of CUDA_VISIBLE_DEVICES={visible}")
    os.environ["CUDA_VISIBLE_DEVICES"] = cards[number].strip()


def device_of(wanted: Device) -> torch.device:
    """Where to compute. For `cuda:N` that is the only card which `hide_other_cards` has left.

    Raises EncoderError if this torch sees no GPU at all, DeviceMissing if it does not see the card.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if wanted.startswith("cuda:") and torch.version.cuda is not None:
        raise DeviceMissing(f"CUDA does not see {wanted}: nvidia-smi says which cards it has")
    if wanted != "auto":
        raise EncoderError(
            f"KINDRED_DEVICE={wanted}, but torch sees no GPU here: set it to cpu or auto"
        )
    return torch.device("cpu")


def dtype_of(wanted: Dtype, device: torch.device) -> torch.dtype:
    if wanted == "auto":
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float32
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return any(able.get(instructions, False) for instructions in _BF16_INSTRUCTIONS)


def sizing_of(options: EncoderOptions, device: torch.device) -> Sizing:
    gpu = device.type == "cuda"

    def resolved(value: int | str, on_cpu: int, on_gpu: int) -> int:
        return value if isinstance(value, int) else on_gpu if gpu else on_cpu

    return Sizing(
        batch_size=resolved(options.batch_size, 8, 256),
        lanes=resolved(options.lanes, cores(options.processes), 2),
        shard_size=resolved(options.shard_size, 64, 1024),
    )


def cores(processes: int) -> int:
    """The share of each of so many processes in the cores that this one may use, at least one.

    A container may use fewer cores than the machine has.
    """
    return max(1, _usable_cores() // processes)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
