"""Cells of tables for a spreadsheet."""

from typing import Any

# A cell that begins so is a formula for Excel, and a file or a label may be called so.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def harmless(cell: Any) -> Any:
    """Text that no spreadsheet runs as a formula; anything else unchanged."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
