"""Local images, sent through the api in requests of a bounded size, one job each."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cli.client import Client, Part
from cli.documents import Document, Job, Rejection
from cli.failure import CommandError, TooLarge
from cli.follow import Show, Step
from cli.metadata import read_metadata

# By default the server accepts 32 MB a request, and its form parser 1,000 files and 1 MB of
# metadata. Where it accepts less, we halve the refused request.
CHUNK_BYTES = 16_000_000
CHUNK_FILES = 256

SUFFIXES = frozenset(
    {
        ".avif",
        ".bmp",
        ".dcm",
        ".gif",
        ".jp2",
        ".jpeg",
        ".jpg",
        ".pgm",
        ".png",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    }
)


@dataclass(frozen=True)
class LocalImage:
    path: Path
    metadata: Document = field(default_factory=dict)


def local_images(sources: Sequence[str], limit: int | None = None) -> list[LocalImage]:
    """The files named, and the images in the folders named, with what their tables say of them."""
    images: list[LocalImage] = []
    for source in sources:
        path = Path(source).expanduser()
        if path.is_dir():
            images += _images_in(path)
        elif path.exists():
            images.append(LocalImage(path))
        else:
            raise CommandError(f"no such file or folder: {source}")
    if not images:
        raise CommandError(f"no images in {', '.join(sources)}")
    return images[:limit]


def _images_in(folder: Path) -> list[LocalImage]:
    """Files by their suffix, and what else a table names: what is not there is rejected later."""
    known = read_metadata(folder)
    found = {p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()}
    return [LocalImage(path, known.get(path, {})) for path in sorted(found | known.keys())]


def chunks(images: Iterable[LocalImage]) -> Iterator[list[LocalImage]]:
    """Runs of images that fit into a request. A larger image is a run of its own."""
    chunk: list[LocalImage] = []
    room = CHUNK_BYTES
    for image in images:
        size = _size(image.path)
        if chunk and (size > room or len(chunk) == CHUNK_FILES):
            yield chunk
            chunk, room = [], CHUNK_BYTES
        chunk.append(image)
        room -= size
    if chunk:
        yield chunk


def _size(path: Path) -> int:
    """Bytes; 0 for a file that cannot be read, which is rejected when it is opened."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


@dataclass
class Upload:
    """What has been sent so far. `refused` files are in no job: unreadable or too large."""

    client: Client
    jobs: list[Job] = field(default_factory=list)
    refused: list[Rejection] = field(default_factory=list)
    _paths: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def sent(self) -> int:
        return sum(len(paths) for paths in self._paths.values())

    def send(self, images: Sequence[LocalImage], show: Show) -> None:
        """Stops at the first request that fails as a whole; `jobs` then has what is on its way."""
        for chunk in chunks(images):
            self._send(chunk)
            show(Step("sending", self.sent + len(self.refused), len(images)))

    def rejections(self) -> Iterator[Rejection]:
        """All of them, with the files' paths, since the server knows only the files' order."""
        yield from self.refused
        for job in self.jobs:
            paths = self._paths[job["id"]]
            for rejection in self.client.rejections(job["id"]):
                if rejection["row"] < len(paths):
                    rejection["file"] = str(paths[rejection["row"]])
                yield rejection

    def _send(self, chunk: Sequence[LocalImage]) -> None:
        with ExitStack() as files:
            opened = [(image, file) for image in chunk if (file := self._open(image, files))]
            if not opened:
                return
            try:
                self._post(opened)
            except TooLarge as error:
                self._send_less(opened, error)

    def _post(self, opened: Sequence[tuple[LocalImage, BinaryIO]]) -> None:
        job = self.client.upload(
            [_part(number, image, file) for number, (image, file) in enumerate(opened)],
            [image.metadata for image, _ in opened],
        )
        self.jobs.append(job)
        self._paths[job["id"]] = [image.path for image, _ in opened]

    def _send_less(self, opened: Sequence[tuple[LocalImage, BinaryIO]], error: TooLarge) -> None:
        images = [image for image, _ in opened]
        if len(images) == 1:
            self._refuse(images[0], f"too large for the server: {error}")
            return
        half = len(images) // 2
        self._send(images[:half])
        self._send(images[half:])

    def _open(self, image: LocalImage, files: ExitStack) -> BinaryIO | None:
        try:
            return files.enter_context(image.path.open("rb"))
        except OSError as error:
            self._refuse(image, f"cannot be read: {error.strerror}")
            return None

    def _refuse(self, image: LocalImage, reason: str) -> None:
        row = len(self.refused)
        self.refused.append(
            {"image_id": None, "row": row, "reason": reason, "file": str(image.path)}
        )


def _part(number: int, image: LocalImage, file: BinaryIO) -> Part:
    """Under a neutral name: a file's own can hold a patient's."""
    name = f"{number}{image.path.suffix.lower()}"
    return "files", (name, file, "application/octet-stream")
