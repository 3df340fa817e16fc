"""`kindred demo`: ingest, search and stop, once, in a temporary folder."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import typer

from cli.client import Client
from cli.documents import Document
from cli.failure import CommandError, Interrupted
from cli.hub import hub_in_reach
from cli.ingest import Course, ingest_source
from cli.processes import Child, Program, module_command, module_environment, tail
from cli.render import make_console, print_images
from cli.report import Report

HUB_DATASET = "marmal88/skin_cancer"
HUB_MODEL = "facebook/dino-vits16"
HUB_ROWS = 200
DRAWN_ROWS = 120
NEIGHBOURS = 5
START_SECONDS = 600.0  # for the whole system, a model's download included
STOP_SECONDS = 90.0  # more than `kindred up` gives a worker
LOG_LINES = 15

NEXT = """
Next, with your own images:
  kindred up                      serves on http://127.0.0.1:8000, with a page; Ctrl-C stops it
  kindred ingest FOLDER           in a second terminal: a folder of images, or a data set
  kindred search PICTURE          the images most similar to it
In a checkout the command is .venv/bin/kindred. README.md goes on from here."""

# A demonstration must reach neither the Redis nor the collection of a real installation.
KEPT_SETTINGS = frozenset({"KINDRED_DEVICE", "KINDRED_DTYPE", "KINDRED_LOG_LEVEL"})


@dataclass(frozen=True)
class Sample:
    """What is ingested, and with which model."""

    dataset: str
    model: str
    limit: int | None


def run_demo() -> None:
    """Returns when all has been shown and everything has stopped."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with tempfile.TemporaryDirectory(
            prefix="kindred-demo-", ignore_cleanup_errors=True
        ) as folder:
            sample = choose_sample(Path(folder))
            with _system(Path(folder), sample) as client:
                _show(client, sample, Path(folder))
    finally:
        signal.signal(signal.SIGTERM, before)
    typer.echo("stopped, and the folder is removed")
    typer.echo(NEXT)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def choose_sample(folder: Path) -> Sample:
    """Real images and a real model if the hub answers, else drawn images and an untrained model."""
    if hub_in_reach():
        return Sample(HUB_DATASET, HUB_MODEL, HUB_ROWS)
    typer.echo(
        "The model hub is out of reach: using images drawn here and an untrained stand-in of the"
        " same shape as the model. The mechanics are real, the neighbours mean nothing."
    )
    return draw_sample(folder)


def draw_sample(folder: Path) -> Sample:
    from cli.sample import write_dataset, write_encoder

    dataset, model = folder / "drawn-images", folder / "untrained-vit-s16"
    write_dataset(dataset, DRAWN_ROWS)
    write_encoder(model)
    return Sample(str(dataset), str(model), None)


# --- the system ----------------------------------------------------------------------------------


@contextmanager
def _system(folder: Path, sample: Sample) -> Iterator[Client]:
    """`kindred up` on free ports. If anything fails, the end of its output is shown."""
    log = folder / "up.log"
    arguments = ("up", "--data", str(folder / "data"), "--port", "0", "--flower-port", "0")
    program = Program(
        "system",
        module_command("cli", *arguments),
        module_environment(_environment(os.environ, sample)),
        log,
    )
    child = Child(program)
    child.start()
    try:
        typer.echo("starting Redis, a worker, the api and Flower")
        with Client(_await_ready(child, log)) as client:
            yield client
    except (KeyboardInterrupt, Interrupted) as stop:
        raise Interrupted("interrupted: all is stopped, and the folder removed") from stop
    except CommandError as error:
        typer.echo(_log_tails(child, folder), err=True)
        raise CommandError(f"the demonstration failed: {error}") from error
    finally:
        _stop(child)


def _environment(environment: Mapping[str, str], sample: Sample) -> dict[str, str]:
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith("KINDRED_") or name in KEPT_SETTINGS
    }
    return {**kept, "KINDRED_MODEL": sample.model}


def _await_ready(child: Child, log: Path) -> str:
    """The address that it prints once it can answer a search. Prints its other lines."""
    deadline = time.monotonic() + START_SECONDS
    seen = 0
    while child.running and time.monotonic() < deadline:
        lines = log.read_text("utf-8").split("\n")[:-1]
        for line in lines[seen:]:
            if line.startswith("ready: "):
                return line.removeprefix("ready: ")
            typer.echo(f"  {line}")
        seen = len(lines)
        time.sleep(0.2)
    how = "did not get ready" if child.running else "ended before it was ready"
    raise CommandError(f"the system {how}")


def _log_tails(child: Child, folder: Path) -> str:
    """The end of the system's output, and of its worker's log, where most faults show."""
    tails = [f"--- kindred up ---\n{child.last_words(LOG_LINES)}"]
    worker = folder / "data" / "logs" / "worker.log"
    if worker.exists():
        words = "\n".join(tail(worker, LOG_LINES))
        tails.append(f"--- worker ---\n{words}")
    return "\n".join(tails)


def _stop(child: Child) -> None:
    """Passes a second Ctrl-C on: it makes `kindred up` kill what still runs."""
    try:
        child.send(signal.SIGTERM)
        _await_end(child, STOP_SECONDS)
    except KeyboardInterrupt:
        child.send(signal.SIGTERM)
        _await_end(child, STOP_SECONDS)
    if child.running:
        child.send(signal.SIGKILL)
        _await_end(child, STOP_SECONDS)


def _await_end(child: Child, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while child.running and time.monotonic() < deadline:
        time.sleep(0.1)


# --- what is shown -------------------------------------------------------------------------------


def _show(client: Client, sample: Sample, folder: Path) -> None:
    console = make_console()
    typer.echo(f"ready at {client.url}; ingesting {sample.dataset} with {sample.model}")
    source: Document = {"dataset": sample.dataset, "split": "train", "limit": sample.limit}
    ingest_source(client, source, {}, Report(console, json=False), Course())

    indexed = client.images(limit=1)["images"]
    if not indexed:
        raise CommandError("no image is indexed after the job")
    image_id = indexed[0]["image_id"]
    typer.echo(f"\nmost similar to the indexed image {image_id}:")
    found = client.search({"image_id": image_id, "limit": NEIGHBOURS})
    print_images(console, found["results"] or [])

    picture = folder / "picture.jpg"
    picture.write_bytes(client.preview(image_id))
    typer.echo("\nmost similar to an uploaded picture, that same image as a file:")
    found = client.search({"limit": NEIGHBOURS}, [picture])
    print_images(console, found["results"] or [])
