"""Says when the images of jobs lie unlike the collection, by device and site."""

import time
from collections.abc import Iterator, Sequence

from cli.client import Client
from cli.documents import Document, Job
from cli.failure import CommandError, printable

# It is known seconds after the end of a job; nobody waits for longer than this, in seconds.
PATIENCE = 15.0
POLL_SECONDS = 0.5

LEAST = 20  # images that a job embeds: of fewer, the api says nothing
MOST_JOBS = 8  # of an upload: an answer for each costs a call


def brought(jobs: Sequence[Job]) -> list[Job]:
    """Those that have embedded enough images to be unlike."""
    return [j for j in jobs if j.get("embedded", 0) >= LEAST and not j.get("dry_run")]


def drift_lines(client: Client, jobs: Sequence[Job], patience: float = PATIENCE) -> Iterator[str]:
    """A line for each group of images that is unlike; none if the api is too old to know."""
    give_up = time.monotonic() + patience
    for job in jobs[:MOST_JOBS]:
        try:
            found = _known(client, job["id"], give_up)
        except CommandError:  # the job itself has gone well
            return
        yield from (_sentence(each) for each in found.get("groups", ()) if each["drifted"])


def _known(client: Client, job: str, give_up: float) -> Document:
    while True:
        found = client.get("jobs", job, "drift")
        if found.get("state") != "pending" or time.monotonic() > give_up:
            return found
        time.sleep(POLL_SECONDS)


def _sentence(group: Document) -> str:
    """`unlike the collection: 143 of the 200 images sampled of model Artis lie farther …`"""
    values = ", ".join(f"{name} {value}" for name, value in group["values"].items())
    what = f" of {values}" if values else ""
    whose = "earlier images of the same kind" if group["own"] else "its own images"
    return printable(
        f"unlike the collection: {group['beyond']:,} of the {group['sampled']:,} images sampled"
        f"{what} lie farther from it than 95 % of {whose} do (5 % would be usual): "
        "a new camera, a broken scanner, or another body part?"
    )
