"""`python -m pipeline.ledger` prints the Lua script as Redis gets it, for a linter to read."""

from pipeline.ledger.script import source

print(source())
