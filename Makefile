# make run    the gateway on SQLite with the sandbox, nothing else needed
# make test   every test, with what the tests need
# make check  the quick gate before a commit
# make bench  every benchmark beside the limit of this machine (docs/performance.md)
# make format, lock, messages, migration NAME=what_changed   while developing
SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv/bin
UV := .tools/bin/uv
PYBABEL := $(VENV)/python -m babel.messages.frontend
PLAIN := --no-wrap --omit-header

.PHONY: help run test check bench format lock messages migration clean

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

tests/peers/node_modules/.ready: tests/peers/package-lock.json .venv/.test
	@cd tests/peers && "$(CURDIR)/$(VENV)/npm" ci --silent --ignore-scripts
	@touch $@

test: .venv/.test tests/peers/node_modules/.ready
	@sh .ci/bootstrap peers
	@$(VENV)/ruff format --check --quiet . && $(VENV)/ruff check --quiet .
	@$(VENV)/mypy && $(VENV)/lint-imports
	@$(VENV)/pytest -n 3 --dist worksteal

check: .venv/.test
	@$(VENV)/ruff format --check . && $(VENV)/ruff check .
	@$(VENV)/mypy && $(VENV)/lint-imports
	@$(VENV)/pytest -n 3 --dist worksteal -m "not slow"

bench: .venv/.test
	@$(VENV)/python -m benchmarks all

format: .venv/.test
	@$(VENV)/ruff format . && $(VENV)/ruff check --fix .

lock: | $(UV)
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml -o requirements/run.txt
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --group dev -o requirements/test.txt

messages: .venv/.test
	@$(PYBABEL) extract -F templates/locale/babel.cfg --no-location $(PLAIN) -o .venv/en.pot . 2>/dev/null
	@$(PYBABEL) update -i .venv/en.pot -l en -o templates/locale/en.po $(PLAIN) --no-fuzzy-matching --ignore-obsolete

migration: .venv/.test
	@$(VENV)/tortoise -c gateway.database.DEVELOPMENT makemigrations -n "$(NAME)"

clean:
	@rm -rf .venv .tools tests/peers/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
