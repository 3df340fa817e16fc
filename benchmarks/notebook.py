"""Runs the reference notebook's own way from a data set to points, in a separate process.

    python -m benchmarks.notebook MODEL

It loads the model, prints {"ready": true}, then answers each line {"dataset": …, "folder": …} with
its times. `_ingest` is the notebook's code. Only the model's folder, the processor's backend
(Pillow's, as in Kindred) and the engine are ours: Qdrant's engine runs in the process, with neither
a network nor the slow local mode of the client.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import Sample, Slice
from cli.processes import module_command, module_environment, tail

STOP_SECONDS = 20.0


@dataclass(frozen=True)
class NotebookRun:
    """`phases` has seconds by name, which add up to `seconds`."""

    seconds: float
    cpu_seconds: float
    phases: dict[str, float]
    vectors: Path  # .npy, float (rows, dimensions)


class Notebook:
    """The process, as its parent sees it."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process, self._log = process, log

    def ingest(self, part: Slice, folder: Path) -> NotebookRun:
        """Creates `folder` for the notebook's files, so that none of an earlier run are in it."""
        folder.mkdir()
        assert self._process.stdin is not None
        request = {"dataset": str(part.folder), "folder": str(folder)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return NotebookRun(**self.answer(), vectors=folder / "vectors.npy")

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            words = "\n".join(tail(self._log, 10))
            status = self._process.wait()
            raise RuntimeError(f"the notebook's process ended with {status}:\n{words}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def running(sample: Sample, log: Path) -> Iterator[Notebook]:
    """Starts it with a warm model. It ends when we do, because its standard input closes."""
    with log.open("ab") as errors:
        process = subprocess.Popen(
            module_command("benchmarks.notebook", str(sample.model)),
            env=module_environment(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # the terminal's Ctrl-C reaches only us
        )
    try:
        notebook = Notebook(process, log)
        notebook.answer()
        yield notebook
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# --- in the process ------------------------------------------------------------------------------


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print, and that must not mix with the answers

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    embed = _load(sys.argv[1])
    say({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        say(_ingest(embed, request["dataset"], Path(request["folder"])))


def _load(folder: str) -> Callable[[Any], Any]:
    """The notebook's `get_embeddings`, with a warm model, as in Kindred's workers."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, ViTModel

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = ViTModel.from_pretrained(folder, dtype=torch.float32).to(device)

    def get_embeddings(batch: Any) -> Any:
        inputs = processor(images=batch["image"], return_tensors="pt").to(device)
        with torch.no_grad():
            outputs = model(**inputs).last_hidden_state.mean(dim=1).cpu().numpy()
        batch["embeddings"] = outputs
        return batch

    get_embeddings({"image": [Image.new("RGB", (224, 224))] * 16})
    return get_embeddings


def _ingest(get_embeddings: Callable[[Any], Any], name: str, folder: Path) -> dict[str, Any]:
    from datasets import load_dataset

    upsert = _collection(folder / "engine")
    clock = _Clock()

    dataset = load_dataset(name, split="train", cache_dir=str(folder / "cache"))
    clock.lap("load")
    dataset = dataset.map(get_embeddings, batched=True, batch_size=16)
    clock.lap("map")

    vectors = folder / "vectors"
    np.save(vectors, np.array(dataset["embeddings"]), allow_pickle=False)
    payload = (
        dataset.select_columns(["image_id", "dx", "dx_type", "age", "sex", "localization"])
        .to_pandas()
        .fillna({"age": 0})
        .to_dict(orient="records")
    )
    ids = list(range(dataset.num_rows))
    embeddings = np.load(f"{vectors}.npy").tolist()
    clock.lap("save")

    batch_size = 1000
    for i in range(0, dataset.num_rows, batch_size):
        low_idx = min(i + batch_size, dataset.num_rows)
        upsert(ids[i:low_idx], embeddings[i:low_idx], payload[i:low_idx])
    clock.lap("upsert")
    return clock.laps()


def _collection(folder: Path) -> Callable[[Any, Any, Any], None]:
    """Creates an empty collection of 384 dimensions with cosine. Returns its `upsert`."""
    import qdrant_edge as edge

    folder.mkdir()
    vectors = edge.EdgeVectorParams(size=384, distance=edge.Distance.Cosine)
    shard = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=vectors, wal_enabled=True))

    def upsert(ids: list[int], embeddings: list[list[float]], payloads: list[Any]) -> None:
        points = [edge.Point(*row) for row in zip(ids, embeddings, payloads, strict=True)]
        shard.update(edge.UpdateOperation.upsert_points(points))

    return upsert


class _Clock:
    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._cpu = time.process_time()
        self._phases: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._phases[name], self._last = now - self._last, now

    def laps(self) -> dict[str, Any]:
        return {
            "seconds": self._last - self._start,
            "cpu_seconds": time.process_time() - self._cpu,
            "phases": self._phases,
        }


if __name__ == "__main__":
    main()
