"""`python -m api.dimse.move`: has an archive send what is asked for, series by series.

What has come whole is written down, so that a second run asks for the rest alone. The archive sends
to our own receiver, so that must run.
"""

import argparse
import re
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

from api.checks import check_blobs, check_redis
from api.dimse.archive import Archive, ArchiveError, Moved, Series
from api.dimse.quiet import silence
from api.incoming import Incoming
from api.services import Collection, Services
from pipeline.base import logs
from pipeline.base.errors import KindredError
from pipeline.base.keys import Keys
from pipeline.base.settings import EXIT_CONFIGURATION, Settings, load_settings

FAILED, SOME_FAILED = 1, 3  # as of `kindred ingest`
WAIT = 5.0  # seconds between two looks whether there is room, or whether its hour has come

# Modalities of what is no image (PS3.3 C.7.3.1.1.1): the receiver takes none of it.
_NO_IMAGES = """
    SR PR KO DOC SEG REG RTSTRUCT RTDOSE RTPLAN RTRECORD RTSEGANN FID PLAN ECG EPS HD RESP EMG EEG
    EOG AU SMR AUDIO M3D ASMT RWV STAIN TEXTUREMAP XAPROTOCOL CTPROTOCOL IVUSPR SM
"""
NO_IMAGES = frozenset(_NO_IMAGES.split())


@dataclass(frozen=True)
class Wanted:
    """`hours` are those of the day, local, in which it asks; `pause`: seconds after a series."""

    modalities: tuple[str, ...]
    first: date
    last: date
    studies: tuple[str, ...] = ()
    hours: tuple[int, int] | None = None
    pause: float = 0


@dataclass
class Tally:
    studies: int = 0
    series: int = 0
    known: int = 0
    objects: int = 0
    failed: int = 0

    def line(self) -> str:
        return (
            f"{self.studies} studies, {self.series} series sent, {self.known} known, "
            f"{self.objects} objects, {self.failed} failed"
        )


class Retrieval:
    """Asks for what is wanted and has not come whole before."""

    def __init__(
        self, archive: Archive, collection: Collection, say: Callable[[str], None]
    ) -> None:
        self._archive, self._collection, self._say = archive, collection, say
        self._incoming = Incoming(collection, "c-move")
        self._pseudonyms = collection.dicom.pseudonyms
        self.tally = Tally()

    def run(self, wanted: Wanted) -> None:
        """Raises ArchiveError or KindredError."""
        self._check_receiver()
        for study in self._studies(wanted):
            self.tally.studies += 1
            for series in self._missing(study, wanted.modalities):
                self._wait_for_turn(wanted)
                self._record(series, self._archive.move(series))
                time.sleep(wanted.pause)
            self._say(self.tally.line())

    def _check_receiver(self) -> None:
        titles = {info.title for info, _ in self._collection.ledger.receivers.alive()}
        if self._archive.own not in titles:
            raise ArchiveError(
                f"Nothing receives as {self._archive.own}: start `kindred dicom` with this AE title"
            )

    def _studies(self, wanted: Wanted) -> Iterator[str]:
        if wanted.studies:
            yield from wanted.studies
        else:
            yield from self._archive.studies(wanted.first, wanted.last, wanted.modalities)

    def _missing(self, study: str, modalities: tuple[str, ...]) -> list[Series]:
        found = [
            each
            for each in self._archive.series(study)
            if (each.modality in modalities if modalities else each.modality not in NO_IMAGES)
        ]
        done = self._collection.ledger.moves.done([self._key(each) for each in found])
        missing = [
            each
            for each, count in zip(found, done, strict=True)
            if count is None or (each.count is not None and each.count > count)
        ]
        self.tally.known += len(found) - len(missing)
        return missing

    def _record(self, series: Series, moved: Moved) -> None:
        self.tally.series += 1
        self.tally.objects += moved.completed
        self.tally.failed += moved.failed
        if not moved.failed:
            self._collection.ledger.moves.add(self._key(series), moved.completed)

    def _key(self, series: Series) -> str:
        return self._pseudonyms.of("SeriesInstanceUID", series.uid)

    def _wait_for_turn(self, wanted: Wanted) -> None:
        said = ""
        while reason := self._why_wait(wanted):
            if reason != said:
                self._say(f"waiting: {reason}")
            said = reason
            time.sleep(WAIT)

    def _why_wait(self, wanted: Wanted) -> str | None:
        now = datetime.now(UTC).astimezone().hour
        if wanted.hours is not None and not is_within(now, wanted.hours):
            return "it is not the time of the day to ask"
        return self._incoming.full()


def is_within(hour: int, hours: tuple[int, int]) -> bool:
    """From the first up to, not with, the second; over midnight if that is earlier."""
    first, last = hours
    return first <= hour < last if first < last else hour >= first or hour < last


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    if options.date is None and not options.study:
        parser.error("say which: --date FROM-TO, or --study UID")
    try:
        settings = load_settings()
        logs.configure(settings.log_level)
        silence()
        check_redis(settings)
        check_blobs(settings)
        archive = _archive(options, settings)
    except KindredError as error:
        print(f"kindred dicom move: {error.title}: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    collection = Services.open(settings, Keys.of(settings.keys_file, ())).collection()
    retrieval = Retrieval(archive, collection, lambda line: print(line, file=sys.stderr))
    first, last = options.date or (date.today(), date.today())
    modalities, studies = tuple(options.modality), tuple(options.study)
    wanted = Wanted(modalities, first, last, studies, options.hours, options.pause)
    try:
        retrieval.run(wanted)
    except (ArchiveError, KindredError) as error:
        print(f"kindred dicom move: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(
            "kindred dicom move: interrupted; it goes on when it is started again", file=sys.stderr
        )
        return 130
    print(retrieval.tally.line())
    return SOME_FAILED if retrieval.tally.failed else 0


def _archive(options: argparse.Namespace, settings: Settings) -> Archive:
    title, host, port = options.archive
    tls = None
    if options.tls:
        tls = ssl.create_default_context(cafile=settings.dicom_ca)
        if settings.dicom_cert is not None:
            tls.load_cert_chain(settings.dicom_cert, settings.dicom_key)
    return Archive(title, host, port, options.ae, tls)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kindred dicom move")
    parser.add_argument("--from", dest="archive", type=address, required=True)
    parser.add_argument("--ae", default="KINDRED")
    parser.add_argument("--modality", action="append", default=[])
    parser.add_argument("--date", type=days)
    parser.add_argument("--study", action="append", default=[])
    parser.add_argument("--hours", type=hours_of)
    parser.add_argument("--pause", type=float, default=0)
    parser.add_argument("--tls", action="store_true")
    return parser


def address(text: str) -> tuple[str, str, int]:
    """Of AE@HOST:PORT. Raises ValueError."""
    title, _, rest = text.partition("@")
    host, _, port = rest.rpartition(":")
    if not title or not host:
        raise ValueError
    return title, host.strip("[]"), int(port)


def days(text: str) -> tuple[date, date]:
    """Of 20250101-20251231, 20250101- or 20250101. Raises ValueError."""
    first, dash, last = text.partition("-")
    begin = datetime.strptime(first, "%Y%m%d").date()
    if not dash:
        return begin, begin
    return begin, datetime.strptime(last, "%Y%m%d").date() if last else date.today()


def hours_of(text: str) -> tuple[int, int]:
    """Of 20-6. Raises ValueError."""
    found = re.fullmatch(r"([01]?\d|2[0-3])-([01]?\d|2[0-4])", text)
    if found is None:
        raise ValueError
    return int(found[1]), int(found[2]) % 24


if __name__ == "__main__":
    sys.exit(main())
