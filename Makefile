# Each target sets up what it needs in .venv first; `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
# The releases that were tried together, by hash, for every Python and system that the package is
# for; `make lock` takes newer ones. The package itself is flexible.
LOCKS := requirements/build.lock requirements/dev.lock requirements/test.lock
INSTALL = $(BIN)/pip install --quiet --require-hashes
# Nothing of this machine stands in the locks, nor what Python they were made with.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --custom-compile-command "make lock"
SOURCES := pyproject.toml setup.py $(wildcard src/lightning_proxy/transport/*.p[yx][xd]) \
	$(wildcard src/lightning_proxy/transport/kernel/*.[ch])

# Payments with real peers, killed at each of many steps.
LONG := tests/interop/test_payments_killed.py

.PHONY: help demo test lint format interop interop-long soak attack bench wheel pythons lock lowest clean

help:
	@echo "make demo     the main job, on this machine, in seconds"
	@echo "make test     the fast tests"
	@echo "make lint     ruff, mypy --strict, cython-lint, clang-format"
	@echo "make format   what of that can be put right by itself"
	@echo "make interop  against lnd, LDK and others, which it builds (minutes, the first time)"
	@echo "make interop-long  payments with them, each part killed at each step (many minutes)"
	@echo "make soak     kills the relay 200 times under load, and explores the models (minutes)"
	@echo "make attack   floods a relay, and looks what those who mean well notice (3 minutes)"
	@echo "make bench    the benchmarks: benchmarks/RESULTS.md, results.json and plots (15 minutes)"
	@echo "make wheel    sdist and wheel in dist/, installed and tested away from here"
	@echo "make pythons  test and wheel with the oldest and the newest Python that there are here"
	@echo "make lock     requirements/*.lock anew: the newest releases that go together"
	@echo "make lowest   the fast tests with the oldest releases that pyproject.toml allows"
	@echo "make clean    remove .venv and what was built"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed (set PYTHON=...)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "Python's venv module is needed (on Debian: apt install python3-venv python3-dev)"; exit 1; }

# Editable, so that tests run on the sources; without isolation, so that a rebuild takes seconds.
$(VENV)/.ready: $(SOURCES) $(LOCKS) | $(BIN)/python
	$(INSTALL) --requirement requirements/build.lock
	$(INSTALL) --no-build-isolation --requirement requirements/dev.lock
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

# Needs no lock that is right: one that lacks something is why it is called. dev.lock has all.
lock: $(BIN)/python
	$(BIN)/pip install --quiet uv
	$(LOCK) --upgrade --extra dev --group build --group lock pyproject.toml --output-file requirements/dev.lock
	$(LOCK) --constraints requirements/dev.lock --extra test pyproject.toml --output-file requirements/test.lock
	$(LOCK) --constraints requirements/dev.lock --group build --output-file requirements/build.lock

# With the oldest releases that pyproject.toml allows: what it says has to be true.
lowest: $(VENV)/.ready
	rm -rf $(LOWEST)
	$(BIN)/python -m venv --without-pip $(LOWEST)
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --python $(LOWEST)/bin/python --extra test \
		--no-annotate --no-emit-index-url pyproject.toml --output-file $(LOWEST)/lowest.txt
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --requirement $(LOWEST)/lowest.txt
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --no-deps --editable .
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
	$(BIN)/pytest tests/interop -p no:cacheprovider --ignore $(LONG)

interop-long: $(VENV)/.ready
	$(BIN)/python -m tests.interop.lab.build
	$(BIN)/pytest $(LONG) -p no:cacheprovider

soak: $(VENV)/.ready
	$(BIN)/python -m tests.soak --kills 200
	$(BIN)/pytest -p no:cacheprovider --soak tests/model

attack: $(VENV)/.ready
	$(BIN)/python -m tests.attack

bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks

wheel: $(VENV)/.ready
	$(BIN)/python -m tools.wheel

pythons:
	.ci/pythons

clean:
	rm -rf $(VENV) $(LOWEST) build dist src/*.egg-info
	find src -name '*.so' -delete
	rm -f src/lightning_proxy/transport/frame.c src/lightning_proxy/transport/peer.c
