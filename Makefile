# The two commands that matter: `make demo` and `make test`. Both set everything up by themselves.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo up test lint clean

demo: .venv/installed
	$(BIN)/dermqueue demo

up: .venv/installed
	$(BIN)/dermqueue up

test: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	@echo "Installing DermQueue into .venv (PyTorch alone is some gigabytes; this takes a few minutes, once)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[worker,embedded]'
	touch $@

# After the line above and not instead of it: with torch in place, pip's resolver does not try older ones for captum.
.venv/installed-test: .venv/installed
	@echo "Installing what the tests need into .venv"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

clean:
	rm -rf .venv .dermqueue demo-results
