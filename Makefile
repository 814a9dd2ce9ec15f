# make demo   from nothing to separated, located talkers, with scores and figures
# make test   linters, types, documentation, tests and the recipes' small runs
# make check  what finds most mistakes within a minute: linters, types, the quick tests
# make coverage  all tests, and which lines of msdet they do not run
# make site   the documentation, at http://localhost:8000
# Each makes .venv and installs what it needs the first time.

PYTHON ?= python3.11
VENV := .venv
STAMP := $(VENV)/.installed
QUICK := tests/arrays tests/corpora tests/io tests/losses tests/models tests/tasks tests/test_components.py tests/test_renamed.py

.PHONY: demo test check coverage site clean

demo: $(STAMP)
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash recipes/demo/run.sh

test: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build -f docs/mkdocs.yml
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest --numprocesses auto -m "not slow and not recipe and not browser" $(QUICK)

coverage: $(STAMP)
	OMP_NUM_THREADS=1 $(VENV)/bin/coverage run --source msdet -m pytest tests
	$(VENV)/bin/coverage report --skip-covered --sort=cover

$(STAMP): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	touch $(STAMP)

site: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs serve -f docs/mkdocs.yml

clean:
	rm -rf $(VENV) build dist *.egg-info
