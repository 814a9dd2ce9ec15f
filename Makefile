# make demo   from nothing to separated, located talkers, with scores and figures
# make test   linters, types, documentation, tests and the recipes' small runs
# make site   the documentation, at http://localhost:8000
# Each makes .venv and installs what it needs the first time.

PYTHON ?= python3.11
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: demo test site clean

demo: $(STAMP)
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash recipes/demo/run.sh

test: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build -f docs/mkdocs.yml
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

$(STAMP): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	touch $(STAMP)

site: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs serve -f docs/mkdocs.yml

clean:
	rm -rf $(VENV) build dist *.egg-info
