# make demo   install the tool alone and analyse a synthetic study
# make check  what has to pass before a commit: lint, types, layers, fast tests
# make test   everything
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo check lint test bench clean

demo: $(VENV)/.core
	$(BIN)/gliosight demo -o demo-gliosight --overwrite

check: lint
	$(BIN)/python -m pytest -q -m "not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.dev
	$(BIN)/python -m pytest

# Start-to-exit figures of both engines; docs/decisions/0002 quotes them.
bench: $(VENV)/.dev
	$(PIP) install -e '.[openvino]'
	$(BIN)/python benchmarks/start_to_exit.py

$(VENV)/.core: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -e .
	touch $@

# torch by its exact version and first: a range would take another build.
$(VENV)/.dev: $(VENV)/.core
	$(PIP) install torch==2.13.0
	$(PIP) install -e '.[dev,train]'
	touch $@

clean:
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
