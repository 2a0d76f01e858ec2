# make demo   install the tool alone and analyse a synthetic study
# make check  what has to pass before a commit: lint, types, layers, fast tests
# make test   everything
# make tutorial DATA=FOLDER   the LGG tutorial's notebook on its data set, start to end (hours)
# make tutorial DATA=FOLDER MODE=quick   the same with ten patients
# make tutorial-notebook   the outputs that the notebook is kept with, made on phantoms
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo check lint test bench bench-training tutorial tutorial-notebook clean

demo: $(VENV)/.core
	$(BIN)/gliosight demo -o demo-gliosight --overwrite

check: lint
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Start-to-exit figures of both engines (docs/decisions/0017), and of reading DICOM (docs/dicom.md).
bench: $(VENV)/.dev
	$(BIN)/python benchmarks/start_to_exit.py
	$(BIN)/python benchmarks/reading.py

# Slices per second of training against a plain loop; docs/results.md quotes them.
bench-training: $(VENV)/.dev
	$(BIN)/python benchmarks/training.py $(if $(DATA),--data $(DATA))

tutorial: $(VENV)/.dev
	test -n "$(DATA)" || { echo "give the data set's folder: make tutorial DATA=FOLDER"; exit 2; }
	$(BIN)/python docs/make_tutorial.py --data $(DATA) -o tutorial-gliosight \
		--mode $(or $(MODE),full) --start $(or $(START),imagenet)

tutorial-notebook: $(VENV)/.dev
	$(BIN)/python docs/make_tutorial.py

$(VENV)/.core: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -e .
	touch $@

# torch by its exact version and first: a range would take another build.
$(VENV)/.dev: $(VENV)/.core
	$(PIP) install torch==2.13.0
	$(PIP) install -e '.[dev,train,evaluate]'
	touch $@

clean:
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
