# make run: the main job; make test: the tests; make check: format, lint, types, import floors. Each sets up what it needs.
.PHONY: setup run test check papers bench docs format clean
.DEFAULT_GOAL := run

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

run: $(READY)
	$(BIN)/ammon recall

test: $(READY)
	$(BIN)/python -m pytest -q -n 2 -m "not slow"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

papers: $(READY)
	$(BIN)/python -m pytest -q -m "slow or not slow" tests/papers
	$(BIN)/python -m pytest -q -m slow --ignore tests/papers

bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks

docs: $(READY)
	$(BIN)/mkdocs build --strict

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) site recall
