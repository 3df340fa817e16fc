"""Faults on purpose: a seeded schedule of kills and failures, and what must hold after it."""
