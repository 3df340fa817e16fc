"""What is received: images alone, in the encodings that can be decoded here."""

from collections.abc import Iterable
from functools import cache

from pydicom._uid_dict import UID_dictionary
from pydicom.pixels.decoders.base import _PIXEL_DATA_DECODERS
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import register_uid
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

VERIFICATION = "1.2.840.10008.1.1"

# Its name ends like an image's, but it is tiles of a slide, not a picture that a reader sees.
_NO_IMAGES = frozenset({"VLWholeSlideMicroscopyImageStorage"})

# A few bytes of it can become gigabytes. A peer that offers it must offer another one (PS3.5 10.1).
_NOT_OFFERED = frozenset({DeflatedExplicitVRLittleEndian})


@cache
def image_classes() -> dict[str, str]:
    """SOP class UIDs of images, with their names; those that are retired still come from old
    devices."""
    found = {
        uid: name + (f" ({retired})" if retired else "")
        for uid, (name, kind, _, retired, keyword) in UID_dictionary.items()
        if kind == "SOP Class" and "Image Storage" in name and keyword not in _NO_IMAGES
    }
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


@cache
def transfer_syntaxes() -> tuple[str, ...]:
    """Those for which a decoder is installed."""
    return tuple(
        str(uid)
        for uid, (decoder, _) in _PIXEL_DATA_DECODERS.items()
        if decoder.is_available and uid not in _NOT_OFFERED
    )


def contexts_for(proposed: Iterable[PresentationContext]) -> list[PresentationContext]:
    """What is served of that: storage of images, and verification (C-ECHO).

    Of several transfer syntaxes that a peer proposes for a class, the first that we can decode is
    taken: the peer knows what its files have.
    """
    wanted: dict[str, dict[str, None]] = {}
    for context in proposed:
        syntaxes = wanted.setdefault(str(context.abstract_syntax), {})
        syntaxes |= dict.fromkeys(map(str, context.transfer_syntax))
    ours = transfer_syntaxes()
    return [
        build_context(uid, [each for each in syntaxes if each in ours] or [*ours])
        for uid, syntaxes in wanted.items()
        if uid in image_classes() or uid == VERIFICATION
    ]


def register() -> None:
    """Tells pynetdicom of the classes that it does not know as images."""
    for uid, (_, _, _, _, keyword) in UID_dictionary.items():
        if uid in image_classes() and uid_to_service_class(uid) is not StorageServiceClass:
            register_uid(uid, keyword, StorageServiceClass)
