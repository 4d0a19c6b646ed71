# `make demo` shows what ic-secrets does, `make test` proves it. Both install what is missing.
PYTHON ?= python3
VENV ?= .venv$(if $(CI_NEWEST),-newest)
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := .venv-lowest
LOCK := requirements.lock
# What builds this project and those that PyPI has as source alone; it comes first.
BUILD_LOCK := requirements-build.lock
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate \
	--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
QUICK := not (slow or commands or integration or composers)

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-composers test-pythons test-lowest check coverage lint lock man docs wheel clean tools newest

help:
	@echo 'make demo       a real build with private repositories, from secrets at rest to nothing left'
	@echo 'make test       everything: style, types, all tests, long loops in their short form'
	@echo 'make test-long  everything, long loops and properties in their whole length'
	@echo 'make test-composers  what must hold for Composer, on two newer ones too (as root; 1 GB, fetched once)'
	@echo 'make test-pythons  `make check` on every Python from 3.10 to 3.14 that is found here'
	@echo 'make test-lowest   the quick tests with the lowest versions that pyproject.toml allows'
	@echo 'make check      the quick part: style, types, tests that need neither servers nor Composer'
	@echo 'make coverage   how much of the code the tests run, child processes included; fails for less than it must be'
	@echo 'make lint       style and types'
	@echo 'make lock       write requirements.lock for pyproject.toml (UPGRADE=1: with the newest of everything)'
	@echo 'make man        write docs/ic-secrets.1, the manual page, from what --help says'
	@echo 'make docs       build the site of docs/ into docs/_build/; broken links fail'
	@echo 'make wheel      build dist/*.whl; `make dist` the source archive as well'
	@echo 'make clean      remove what was built, but not .venv'
	@echo
	@echo 'CI_NEWEST=1 make ...  the same with the newest versions instead of the locked ones, in .venv-newest'

demo: $(READY)
	@$(BIN)/python fixtures/demo.py

# The integration tests run one by one: they look for values on the whole machine.
test: lint
	@.ci/in-turn '$(BIN)/pytest -n 2 --ignore tests/integration' '$(BIN)/pytest tests/integration'

test-long: lint
	$(BIN)/pytest --long

test-composers: $(READY)
	.ci/composers
	$(BIN)/pytest tests/composers

test-pythons: | tools
	@.ci/pythons

# Lint is not part of it: what a linter says depends on its version.
test-lowest: $(READY)
	$(PYTHON) -m venv --clear $(LOWEST)
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --python $(LOWEST)/bin/python --extra dev pyproject.toml \
		--output-file $(LOWEST)/requirements.txt
	$(LOWEST)/bin/pip install --quiet --requirement $(LOWEST)/requirements.txt
	$(LOWEST)/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	$(LOWEST)/bin/pytest -n auto -m '$(QUICK)'

check: lint
	$(BIN)/pytest -n auto -m '$(QUICK)'

# Twice as slow as `make test`, and not part of it.
coverage: $(READY)
	@BIN=$(BIN) .ci/coverage

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

lock: $(READY)
	$(COMPILE) --all-extras pyproject.toml --output-file $(LOCK)
	printf '%s\n' editables hatchling setuptools | $(COMPILE) - --constraint $(LOCK) --output-file $(BUILD_LOCK)

man: $(READY)
	BIN=$(BIN) .ci/man > docs/ic-secrets.1.new
	mv docs/ic-secrets.1.new docs/ic-secrets.1

docs: $(READY)
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

dist: $(READY)
	$(BIN)/python -m build --no-isolation

wheel: $(READY)
	$(BIN)/python -m build --wheel --no-isolation

clean:
	rm -rf build dist docs/_build docs/reference/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests fixtures hooks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# Debian's packages come first, since one of them may be what makes the environment; where all are there, nothing is asked for.
tools:
	@PYTHON='$(PYTHON)' .ci/install

$(READY): pyproject.toml $(LOCK) $(BUILD_LOCK) $(if $(CI_NEWEST),newest) | tools
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifdef CI_NEWEST
	$(BIN)/pip install --quiet --upgrade --upgrade-strategy eager --editable '.[dev]'
else
	$(BIN)/pip install --quiet --require-hashes --only-binary :all: --requirement $(BUILD_LOCK)
	$(BIN)/pip install --quiet --require-hashes --no-build-isolation --requirement $(LOCK)
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
endif
	@touch $@
