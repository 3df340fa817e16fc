.PHONY: setup demo up check test bench chaos load lock clean

# The first of these that is 3.11 to 3.13 makes .venv; `make PYTHON=… setup` takes another.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

setup: .venv/.done

.venv/.done: requirements.lock pyproject.toml
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { echo "Kindred needs Python 3.11 to 3.13" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing what Kindred needs into .venv; torch is the largest, and it takes a while"
	$(PIP) install --requirement requirements.lock
	$(PIP) install --quiet --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/kindred demo

up: setup
	$(BIN)/kindred up

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if command -v luacheck >/dev/null; then \
	  script=$$($(BIN)/python -m pipeline.ledger) && printf '%s\n' "$$script" | luacheck --quiet -; \
	elif [ -n "$$CI" ]; then \
	  echo "luacheck is missing, so the ledger's Lua cannot be checked: install lua-check" >&2; exit 1; \
	else \
	  echo "luacheck is not installed (Debian: lua-check): the ledger's Lua is not checked here"; \
	fi

test: setup
	$(BIN)/pytest

bench: setup
	$(BIN)/python -m benchmarks

# CHAOS_SEED, CHAOS_KILLS and CHAOS_RUNS choose; as root it also fills a disk of its own.
chaos: setup
	$(BIN)/python -m tests.chaos

# LOAD_MINUTES chooses.
load: setup
	$(BIN)/python -m benchmarks.load

# To be run on Linux with CPython 3.11. `make lock LOCK_ARGS=--upgrade` moves every pin.
lock:
	$(BIN)/pip-compile --quiet --extra dev --strip-extras --no-header --annotation-style line \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host $(LOCK_ARGS) \
	  --output-file requirements.lock pyproject.toml
	sed --in-place --regexp-extended \
	  --expression '1i # Made by `make lock`: what Kindred runs and is developed with, for CPython 3.11 on Linux.' \
	  --expression '1i # Without the CUDA packages of torch, and without the name of its build: pip takes the build' \
	  --expression '1i # that the machine offers, and the packages that this build asks for.' \
	  --expression '/^#|^$$|^cuda-|^nvidia-|^triton=/d; s/^(torch==[0-9.]+)\+[a-z0-9]+/\1/' requirements.lock

clean:
	rm -rf .venv build *.egg-info
