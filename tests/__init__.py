"""Unit tests need no service; story tests start the real processes."""
