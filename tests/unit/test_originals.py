"""Original numbers under seal: opened for the image that they are of, by old keys too."""

import pytest

from api.viewer import link
from pipeline.base.errors import ConfigurationError
from pipeline.base.settings import load_settings
from pipeline.dicom.originals import Sealing
from pipeline.dicom.pseudonyms import Pseudonyms

NUMBERS = {"study": "1.2.840.1", "accession": "A/1 &x=2"}


def sealing(*keys: bytes, purpose: str = "viewer") -> Sealing:
    return Sealing(Pseudonyms(keys), purpose)


def test_a_seal_opens_for_its_image_and_purpose_alone() -> None:
    sealed = sealing(b"one").seal(NUMBERS, "image")
    assert "1.2.840" not in sealed
    assert sealing(b"one").seal(NUMBERS, "image") != sealed  # it is no key of the number
    assert sealing(b"one").open(sealed, "image") == NUMBERS
    assert sealing(b"one").open(sealed, "other") is None
    assert sealing(b"one", purpose="open").open(sealed, "image") is None
    assert sealing(b"two").open(sealed, "image") is None


def test_an_old_seal_opens_after_a_rotation() -> None:
    sealed = sealing(b"one").seal(NUMBERS, "image")
    assert sealing(b"new", b"one").open(sealed, "image") == NUMBERS


@pytest.mark.parametrize("broken", ["", "AAAA", "é", "A" * 200])
def test_what_is_no_seal_opens_for_nobody(broken: str) -> None:
    assert sealing(b"one").open(broken, "image") is None


def test_a_link_has_its_numbers_encoded_or_is_none() -> None:
    assert link("https://v/{study}/{accession}", NUMBERS) == "https://v/1.2.840.1/A%2F1%20%26x%3D2"
    assert link("https://v/{series}", NUMBERS) is None


@pytest.mark.parametrize(
    "url", ["ftp://v/{study}", "https://v/", "https://v/{patient}", "https://{"]
)
def test_a_viewer_that_makes_no_link_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDRED_VIEWER_URL", url)
    with pytest.raises(ConfigurationError, match="KINDRED_VIEWER_URL"):
        load_settings()
