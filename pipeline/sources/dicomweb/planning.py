"""Lists the images of an archive: studies, their series, and their instances, each frame a row."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID

from pipeline.dicom import kinds
from pipeline.dicom.frames import FramePolicy
from pipeline.sources.dicomweb.archive import Archive, text_of
from pipeline.sources.folder.survey import Entry, Found
from pipeline.sources.folder.tree import Skipped

_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_CLASS, _MODALITY, _FRAMES = "00080016", "00080060", "00280008"

# Words in the names of SOP classes (PS3.6 A) whose instances can have several frames.
_OF_FRAMES = ("Multi-frame", "Enhanced", "X-Ray Angiographic", "X-Ray Radiofluoroscopic",
              "Nuclear Medicine", "Tomosynthesis", "Tomography", "3D", "Video",
              "RT Image")  # fmt: skip


def images(
    archive: Archive, modalities: tuple[str, ...], date: str | None, frames: FramePolicy
) -> Iterator[Found]:
    """Rows by (study, series, instance, number of frames). Raises ArchiveAway and SourceError."""
    for modality in modalities or ("",):
        wanted = {"StudyDate": date or "", "ModalitiesInStudy": modality}
        for study in archive.search(("studies",), **_given(wanted)):
            yield from _of_study(archive, text_of(study, _STUDY), modality, frames)


def _of_study(archive: Archive, study: str, modality: str, frames: FramePolicy) -> Iterator[Found]:
    path = ("studies", study, "series")
    for series in archive.search(path, **_given({"Modality": modality})):
        own = text_of(series, _MODALITY)
        if modality and own and own != modality:  # an archive may ignore conditions
            continue
        within = (*path, uid := text_of(series, _SERIES), "instances")
        for instance in archive.search(within, includefield=_FRAMES):
            yield from _of_instance(archive, (study, uid, own), instance, frames)


def _of_instance(
    archive: Archive, within: tuple[str, str, str], found: Mapping[str, Any], frames: FramePolicy
) -> Iterator[Found]:
    study, series, modality = within
    kind = skip_kind(text_of(found, _CLASS), modality)
    if kind is not None:
        yield Skipped("", kind)
        return
    uid = text_of(found, _INSTANCE)
    said = text_of(found, _FRAMES)
    if not said and may_have_frames(text_of(found, _CLASS)):
        said = text_of(archive.metadata(study, series, uid), _FRAMES)
    count = int(said) if said.isascii() and said.isdecimal() and int(said) > 0 else 1
    for frame in frames.of(min(count, MOST_FRAMES)):
        yield Entry("", (study, series, uid, str(count)), frame=frame)


MOST_FRAMES = 100_000  # what an archive says of a file can be wrong


def skip_kind(sop_class: str, modality: str = "") -> str | None:
    """None for an image, or what may be one."""
    header = Dataset()
    header.SOPClassUID, header.Modality = sop_class, modality
    return kinds.skip_kind(header)


def may_have_frames(sop_class: str) -> bool:
    """Whether it is worth a request to ask, where a query's answer does not say."""
    name = UID(sop_class).name
    return name == sop_class or any(word in name for word in _OF_FRAMES)


def _given(conditions: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in conditions.items() if value}
