"""What stands in a log line, whoever writes it."""

import io
import logging

from pipeline import logs


def test_of_an_exception_only_its_type_and_place_are_logged() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logs._Line("%(levelname)s %(message)s"))
    logger = logging.Logger("any")
    logger.addHandler(handler)
    try:
        raise ValueError("Doe, Jane")
    except ValueError:
        logger.exception("a library did not expect this")
    assert "Jane" not in out.getvalue()
    assert "ValueError at test_of_an_exception" in out.getvalue()
