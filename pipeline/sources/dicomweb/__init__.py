"""Images from an archive that speaks DICOMweb: QIDO-RS lists them, WADO-RS gives them."""
