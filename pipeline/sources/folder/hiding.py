"""Names of DICOM files, which are often those of patients: lists show keyed hashes in their place.

Where a tree has DICOM files, this holds for all of its names: folders and archives are called after
patients as well. `kindred deidentify-report --folder` finds a file by what a list calls it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.dicom.describing import Policy

_ENDINGS = (".dcm", ".dicom", ".dic", ".ima")


@dataclass(frozen=True)
class Hiding:
    """`name_of` gives a name's hash. `seen` says whether the tree had a DICOM file so far."""

    name_of: Callable[[str], str] = str
    seen: Callable[[], bool] = bool

    @classmethod
    def of(cls, policy: Policy | None) -> "Hiding":
        """`policy` counts: see `Policy.counting`."""
        account = policy.account if policy is not None else None
        if policy is None or account is None:
            return cls()
        return cls(policy.pseudonyms.name_of, lambda: not account.is_empty)


def is_called_dicom(name: str) -> bool:
    """Also of a file that is broken or empty, so that its content says nothing."""
    return name.lower().endswith(_ENDINGS)
