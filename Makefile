# Each target sets up what it needs in .venv first; `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The releases that were tried together; `make lock` takes newer ones. The package itself is flexible.
LOWEST := .venv-lowest
INSTALL = $(BIN)/pip install --quiet --constraint constraints.txt
SOURCES := pyproject.toml setup.py $(wildcard src/lightning_proxy/transport/*.p[yx][xd]) \
	$(wildcard src/lightning_proxy/transport/kernel/*.[ch])

.PHONY: help demo test lint format interop soak bench wheel lock lowest clean

help:
	@echo "make demo     the main job, on this machine, in seconds"
	@echo "make test     the fast tests"
	@echo "make lint     ruff, mypy --strict, cython-lint, clang-format"
	@echo "make format   what of that can be put right by itself"
	@echo "make interop  against lnd, LDK and others, which it builds (minutes, the first time)"
	@echo "make soak     kills the relay 200 times under load, and looks for what got lost (minutes)"
	@echo "make bench    the benchmarks: benchmarks/RESULTS.md, results.json and plots (15 minutes)"
	@echo "make wheel    sdist and wheel in dist/, installed and tested away from here"
	@echo "make lock     constraints.txt anew: the newest releases that go together"
	@echo "make lowest   the fast tests with the oldest releases that pyproject.toml allows"
	@echo "make clean    remove .venv and what was built"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed (set PYTHON=...)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "Python's venv module is needed (on Debian: apt install python3-venv python3-dev)"; exit 1; }

# Editable, so that tests run on the sources; without isolation, so that a rebuild takes seconds.
$(VENV)/.ready: $(SOURCES) constraints.txt | $(BIN)/python
	$(INSTALL) --upgrade pip setuptools cython
	$(INSTALL) --no-build-isolation --editable '.[dev]'
	@touch $@

lock: $(BIN)/python
	$(BIN)/pip install --quiet --upgrade uv
	echo pip | $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--extra dev --no-header --no-annotate --no-emit-index-url --output-file constraints.txt \
		pyproject.toml -

# With the oldest releases that pyproject.toml allows: what it says has to be true.
lowest: $(BIN)/python
	$(BIN)/pip install --quiet uv
	rm -rf $(LOWEST)
	$(BIN)/python -m venv $(LOWEST)
	echo pip | $(BIN)/uv pip compile --quiet --resolution lowest-direct --extra test --no-header \
		--no-annotate --no-emit-index-url --output-file $(LOWEST)/lowest.txt pyproject.toml -
	$(LOWEST)/bin/pip install --quiet --constraint $(LOWEST)/lowest.txt '.[test]'
	$(LOWEST)/bin/python -m pytest --numprocesses auto --dist worksteal tests/unit tests/vectors tests/fuzz

demo: $(VENV)/.ready
	$(BIN)/lightning-proxy demo

test: $(VENV)/.ready
	$(BIN)/pytest --numprocesses auto --dist worksteal

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(BIN):$$PATH" cython-lint src
	$(BIN)/clang-format --dry-run --Werror $(wildcard src/lightning_proxy/transport/kernel/*.[ch])

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(wildcard src/lightning_proxy/transport/kernel/*.[ch])

interop: $(VENV)/.ready
	$(BIN)/python -m tests.interop.lab.build
	$(BIN)/pytest tests/interop -p no:cacheprovider

soak: $(VENV)/.ready
	$(BIN)/python -m tests.soak --kills 200

bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks

wheel: $(VENV)/.ready
	$(BIN)/python -m tools.wheel

clean:
	rm -rf $(VENV) $(LOWEST) build dist src/*.egg-info
	find src -name '*.so' -delete
	rm -f src/lightning_proxy/transport/frame.c src/lightning_proxy/transport/peer.c
