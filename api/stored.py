"""The Store Instances Response Module (PS3.18 I.2): what became of each instance of a request."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

JSON = "application/dicom+json"
XML = "application/dicom+xml"

# Failure reasons (PS3.18 table I.2-2; PS3.4 table GG.4-2 for the last two).
OUT_OF_RESOURCES = 0xA700
OTHER_CLASS = 0xA900
OTHER_STUDY = 0xA901  # of the range A9xx; other servers answer the same
NOT_UNDERSTOOD = 0xC000
NOT_DECODED = 0xC122
CLASS_NOT_SUPPORTED = 0x0122

_KEYWORDS = {
    "00081150": "ReferencedSOPClassUID",
    "00081155": "ReferencedSOPInstanceUID",
    "00081190": "RetrieveURL",
    "00081197": "FailureReason",
    "00081198": "FailedSOPSequence",
    "00081199": "ReferencedSOPSequence",
    "0008119A": "OtherFailuresSequence",
}


@dataclass(frozen=True)
class Instance:
    """Its SOP Class UID and SOP Instance UID, as they were sent; empty if they are not known."""

    sop_class: str = ""
    uid: str = ""

    @property
    def is_known(self) -> bool:
        return bool(self.sop_class and self.uid)


@dataclass
class Outcome:
    """`failed` has a reason for each."""

    stored: list[Instance] = field(default_factory=list)
    failed: list[tuple[Instance, int]] = field(default_factory=list)

    @property
    def status(self) -> int:
        """PS3.18 table 10.5.3-1: 200 only if all were stored, 409 if none."""
        if not self.failed:
            return 200
        return 202 if self.stored else 409

    def document(self) -> dict[str, Any]:
        """In the DICOM JSON model (PS3.18 F)."""
        known = [_failed(each, why) for each, why in self.failed if each.is_known]
        others = [_reason(why) for each, why in self.failed if not each.is_known]
        stored = [_reference(each) for each in self.stored]
        found = {"00081190": {"vr": "UR"}}  # type 2: nothing can be retrieved here
        sequences = (("00081198", known), ("00081199", stored), ("0008119A", others))
        return found | {tag: {"vr": "SQ", "Value": items} for tag, items in sequences if items}

    def encoded(self, kind: str) -> bytes:
        """As one of the two media types."""
        document = self.document()
        return _xml(document) if kind == XML else json.dumps(document).encode()


def _reference(each: Instance) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [each.sop_class]},
        "00081155": {"vr": "UI", "Value": [each.uid]},
    }


def _reason(why: int) -> dict[str, Any]:
    return {"00081197": {"vr": "US", "Value": [why]}}


def _failed(each: Instance, why: int) -> dict[str, Any]:
    return _reference(each) | _reason(why)


def _xml(document: Mapping[str, Any]) -> bytes:
    """The Native DICOM Model (PS3.19 A.1)."""
    root = ElementTree.Element("NativeDicomModel", {"xml:space": "preserve"})
    _attributes(root, document)
    encoded: bytes = ElementTree.tostring(root, "utf-8", xml_declaration=True)
    return encoded


def _attributes(parent: ElementTree.Element, dataset: Mapping[str, Any]) -> None:
    for tag, element in dataset.items():
        about = {"tag": tag, "vr": element["vr"], "keyword": _KEYWORDS[tag]}
        attribute = ElementTree.SubElement(parent, "DicomAttribute", about)
        _values(attribute, element["vr"], element.get("Value", ()))


def _values(attribute: ElementTree.Element, vr: str, values: Sequence[Any]) -> None:
    for number, value in enumerate(values, 1):
        place = {"number": str(number)}
        if vr == "SQ":
            _attributes(ElementTree.SubElement(attribute, "Item", place), value)
        else:
            ElementTree.SubElement(attribute, "Value", place).text = str(value)
