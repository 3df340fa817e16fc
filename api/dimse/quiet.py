"""Keeps what peers send out of logs: pynetdicom and pydicom write AE titles, UIDs and data sets."""

import logging
import threading
import warnings

from pydicom import config as pydicom_config
from pynetdicom import _config as pynetdicom_config

logger = logging.getLogger("kindred.dicom")


def silence() -> None:
    """For the whole process. What matters is logged by us, in words of ours."""
    for name in ("pynetdicom", "pydicom"):
        library = logging.getLogger(name)
        library.setLevel(logging.CRITICAL + 1)
        library.propagate = False
        for known in list(logging.root.manager.loggerDict):
            if known.startswith(f"{name}."):
                logging.getLogger(known).setLevel(logging.CRITICAL + 1)
    pynetdicom_config.LOG_HANDLER_LEVEL = "none"
    pynetdicom_config.LOG_RESPONSE_IDENTIFIERS = False
    pynetdicom_config.LOG_REQUEST_IDENTIFIERS = False
    pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
    warnings.simplefilter("ignore")  # pydicom's quote values
    threading.excepthook = _excepthook


def _excepthook(error: threading.ExceptHookArgs) -> None:
    """The log says where it happened, and nothing of what the error quotes."""
    if error.exc_value is not None:
        logger.error("a thread failed", exc_info=error.exc_value)
