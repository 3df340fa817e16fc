"""DICOM: files into pixels as a reader sees them, and into the metadata that may be kept."""

import logging
import warnings

# pydicom quotes values of a file in what it warns of, and a value can be a patient's name.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"pydicom(\..*)?")
