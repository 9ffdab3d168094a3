# Every target sets up what it needs: system packages (by apt where possible), a virtual environment, the course in it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SYSTEM := bubblewrap libseccomp chromium
# Tests that only compute, two at a time. The others have kernels, sockets and clocks to themselves.
COMPUTING := bank experiments release report week
SIDE_BY_SIDE := tests/test_weeks.py tests/course tests/figures $(COMPUTING:%=tests/autograder/test_%.py)

.PHONY: demo test lab site bench release validate constraints environment clean
.DEFAULT_GOAL := demo

# The whole job on one screen: release week 1, make a class, grade it, write feedback and report.
demo: .make/venv .make/bubblewrap .make/libseccomp
	$(BIN)/autograder demo

# Lint, unit tests, every week validated, the site, the browser tests. CI runs this and nothing else.
test: .make/venv .make/bubblewrap .make/libseccomp .make/chromium
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --durations=15 -n 2 --dist load --maxschedchunk 1 $(SIDE_BY_SIDE)
	$(BIN)/python -m pytest --durations=25 $(addprefix --ignore=,$(SIDE_BY_SIDE))

# JupyterLab on a released week, with nbgrader's extensions (assignment list, validate, formgrader).
lab: .make/venv
	$(BIN)/autograder lab

# The course's site in build/site: lectures executed (what has not changed comes from build/site-cache), warnings are errors.
site: .make/venv
	$(BIN)/python -m autograder.site

# Throughput against stock nbgrader on the same class, and growth to a thousand submissions: half an hour, on a quiet machine.
bench: .make/venv .make/bubblewrap .make/libseccomp
	$(BIN)/autograder bench

release: .make/venv
	$(BIN)/autograder release --all

validate: .make/venv .make/bubblewrap .make/libseccomp
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
	$(BIN)/pip install --quiet -c constraints.txt -e '.[grader,site,dev]'
	$(BIN)/jupyter kernelspec install --sys-prefix autograder/kernel/kernelspecs/course-sandbox 2>/dev/null
	@mkdir -p .make && touch $@

.make/%:
	@sh .ci/system-package "$(PYTHON)" $*
	@mkdir -p .make && touch $@

clean:
	rm -rf .make $(VENV) build grading
