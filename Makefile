# make run    the gateway on SQLite with the sandbox, nothing else needed
# make test   every test, with what the tests need
# make check  the quick gate before a commit
SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv/bin
UV := .tools/bin/uv

.PHONY: help run test check format lock migration shape clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

$(UV):
	@sh .ci/bootstrap uv "$(PYTHON)"

.venv/.run: requirements/run.txt | $(UV)
	@[ -x $(VENV)/python ] || $(UV) venv --quiet --python "$(PYTHON)" .venv
	@[ -e .venv/.test ] || $(UV) pip sync --quiet --python $(VENV)/python --require-hashes requirements/run.txt
	@touch .venv/.run

.venv/.test: requirements/test.txt | $(UV)
	@[ -x $(VENV)/python ] || $(UV) venv --quiet --python "$(PYTHON)" .venv
	@$(UV) pip sync --quiet --python $(VENV)/python --require-hashes requirements/test.txt
	@touch .venv/.test .venv/.run

run: .venv/.run
	@exec $(VENV)/python run.py

test: .venv/.test
	@sh .ci/bootstrap peers
	@$(VENV)/ruff format --check --quiet . && $(VENV)/ruff check --quiet .
	@$(VENV)/mypy && $(VENV)/lint-imports
	@$(VENV)/pytest

check: .venv/.test
	@$(VENV)/ruff format --check . && $(VENV)/ruff check .
	@$(VENV)/mypy && $(VENV)/lint-imports
	@$(VENV)/pytest -m "not slow"

format: .venv/.test
	@$(VENV)/ruff format . && $(VENV)/ruff check --fix .

lock: | $(UV)
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml -o requirements/run.txt
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --group dev -o requirements/test.txt

clean:
	@rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis
