"""DICOM: files into pixels as a reader sees them, and into the metadata that may be kept."""
