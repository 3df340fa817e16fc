"""docs/dicom-conformance.md says what the code does."""

import re

import pytest

from pipeline.base.settings import Settings
from tests.conformance import PAGE, TABLES, tables_of


@pytest.mark.parametrize("name", TABLES)
def test_the_statements_tables_are_those_of_the_code(name: str) -> None:
    """`python -m tests.conformance` writes them anew."""
    assert tables_of(PAGE.read_text())[name] == TABLES[name]()


def test_the_statement_names_settings_that_there_are() -> None:
    named = {name.lower() for name in re.findall(r"\bKINDRED_([A-Z_]*[A-Z])\b", PAGE.read_text())}
    assert named <= set(Settings.model_fields)
    dicom = {name for name in Settings.model_fields if name.startswith("dicom_")}
    assert {name for name in dicom if not name.startswith("dicom_ocr")} <= named
