# Every target sets up what it needs: system packages (by apt where possible), a virtual environment, the course in it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SYSTEM := bubblewrap chromium

.PHONY: demo test lab release validate constraints environment clean
.DEFAULT_GOAL := demo

# The whole job on one screen: release week 1, make a class, grade it, write feedback and report.
demo: .make/venv .make/bubblewrap
	$(BIN)/autograder demo

# Lint, unit tests, every week validated, the browser test. CI runs this and nothing else.
test: .make/venv .make/bubblewrap .make/chromium
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/autograder release --all --check
	$(BIN)/python -m pytest

# JupyterLab on a released week, with nbgrader's extensions (assignment list, validate, formgrader).
lab: .make/venv
	$(BIN)/autograder lab

release: .make/venv
	$(BIN)/autograder release --all

validate: .make/venv .make/bubblewrap
	$(BIN)/autograder validate --all

# After changing dependencies: write down the versions that are installed, and the conda environment.
constraints: .make/venv
	$(BIN)/pip freeze --all --exclude pip --exclude-editable | sed 's/+cpu$$//' > constraints.txt

environment: .make/venv
	$(BIN)/python -m autograder.environment > environment.yml

.make/venv: pyproject.toml constraints.txt
	@sh .ci/system-package "$(PYTHON)" venv
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[grader,dev]'
	@mkdir -p .make && touch $@

.make/%:
	@sh .ci/system-package "$(PYTHON)" $*
	@mkdir -p .make && touch $@

clean:
	rm -rf .make $(VENV) build grading
