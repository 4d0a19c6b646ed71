# `make demo` shows what ic-secrets does, `make test` proves it. Both install what is missing.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-composers check lint man wheel clean tools

help:
	@echo 'make demo       a real build with private repositories, from secrets at rest to nothing left'
	@echo 'make test       everything: style, types, all tests, long loops in their short form'
	@echo 'make test-long  everything, long loops and properties in their whole length'
	@echo 'make test-composers  what must hold for Composer, on two newer ones too (as root; 1 GB, fetched once)'
	@echo 'make check      the quick part: style, types, tests that need neither servers nor Composer'
	@echo 'make lint       style and types'
	@echo 'make man        write docs/ic-secrets.1, the manual page, from what --help says'
	@echo 'make wheel      build dist/*.whl'
	@echo 'make clean      remove what was built, but not .venv'

demo: $(READY)
	@$(BIN)/python fixtures/demo.py

test: lint
	$(BIN)/pytest -n 2 --ignore tests/integration
	$(BIN)/pytest tests/integration  # one by one: they look for values on the whole machine

test-long: lint
	$(BIN)/pytest --long

test-composers: $(READY)
	.ci/composers
	$(BIN)/pytest tests/composers

check: lint
	$(BIN)/pytest -n auto -m 'not slow and not integration and not commands'

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

man: $(READY)
	$(BIN)/python -m ic_secrets.cli.manual > docs/ic-secrets.1.new
	mv docs/ic-secrets.1.new docs/ic-secrets.1

wheel: $(READY)
	$(BIN)/python -m build --wheel

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests fixtures hooks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# Debian's packages come first, since one of them may be what makes .venv; where all are there, nothing is asked for.
tools:
	@PYTHON='$(PYTHON)' .ci/install

$(READY): pyproject.toml | tools
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@
