"""DCMTK's own rendering of a file: another maker's idea of what a reader sees."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import JPEGLSTransferSyntaxes


def need_dcmtk() -> None:
    """Skips the test without the program, or fails it in continuous integration."""
    if shutil.which("dcmj2pnm") is None:
        missing = "no dcmj2pnm on this machine: Debian's package is dcmtk"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)


def drawn(file: Path, folder: Path, *options: str, frame: int = 0) -> np.ndarray | str:
    """uint8 (H, W) or (H, W, 3) without overlays; else what it says that is wrong."""
    syntax = dcmread(file, stop_before_pixels=True, force=True).file_meta.get("TransferSyntaxUID")
    if syntax in JPEGLSTransferSyntaxes:  # it has a program of its own for these
        plain = folder / "plain.dcm"
        subprocess.run(["dcmdjpls", "-q", str(file), str(plain)], check=True)
        file = plain
    picture = folder / "picture.pnm"
    picture.unlink(missing_ok=True)
    command = ["dcmj2pnm", "-O", "+op", "+F", str(frame + 1), *options, str(file), str(picture)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        errors = [line for line in told.stderr.splitlines() if line.startswith(("E:", "F:"))]
        return errors[0] if errors else "it says nothing"
    with Image.open(picture) as image:
        return np.asarray(image)
