# make demo   install the tool alone and analyse a synthetic study
# make check  what has to pass before a commit: lint, types, layers, fast tests
# make test   everything
# make bench  how fast it is, beside its peers (20 minutes)
# make soak   an archive of 200 studies, killed three times and gone on with (10 minutes)
# make scale-bench   what a batch does apart from analysing, up to 100,000 studies (40 minutes)
# make follow-up-bench   follow-up of phantoms with known growth (20 minutes)
# make tutorial DATA=FOLDER   the LGG tutorial's notebook on its data set, start to end (hours)
# make tutorial DATA=FOLDER MODE=quick   the same with ten patients
# make tutorial-notebook   the outputs that the notebook is kept with, made on phantoms
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
BENCH = build/bench
SOURCES = $(shell find src -type f -not -path '*/__pycache__/*')
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo check lint test bench bench-reading bench-training soak scale-bench follow-up-bench tutorial \
  tutorial-notebook clean

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

# The table of docs/benchmarks.md: the tool in an environment of its own, and each peer in one.
bench: $(BENCH)/.core $(BENCH)/.torch $(BENCH)/.keras
	$(BENCH)/core/bin/python benchmarks/speed.py --out $(BENCH)/table.md --plot $(BENCH)/growth.png \
	  --peers unet=$(BENCH)/torch/bin/python keras=$(BENCH)/keras/bin/python

# Reading DICOM (docs/dicom.md).
bench-reading: $(VENV)/.dev
	$(BIN)/python benchmarks/reading.py

# Slices per second of training against a plain loop; docs/results.md quotes them.
bench-training: $(VENV)/.dev
	$(BIN)/python benchmarks/training.py $(if $(DATA),--data $(DATA))

# What `gliosight batch` promises (docs/archive.md); LGG=FOLDER adds the patients of the LGG set.
soak: $(VENV)/.dev
	$(BIN)/python benchmarks/soak.py $(if $(LGG),--lgg $(LGG))

# The figures of docs/scale.md; SCALE="--archive NAME=FOLDER" adds the sizes of other archives.
scale-bench: $(VENV)/.dev
	$(BIN)/python benchmarks/scale.py $(SCALE)

# The tables of docs/follow-up.md; BRATS=FOLDER for how much two studies share of their error.
follow-up-bench: $(VENV)/.dev
	$(BIN)/python benchmarks/follow_up.py $(if $(BRATS),--brats $(BRATS))

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

# Installed as users have it, not editable; torch as in $(VENV)/.dev.
$(BENCH)/.core: pyproject.toml $(SOURCES)
	mkdir -p $(BENCH)
	test -x $(BENCH)/core/bin/python || $(PYTHON) -m venv $(BENCH)/core
	$(BENCH)/core/bin/python -m pip --disable-pip-version-check --quiet install . matplotlib
	touch $@

$(BENCH)/.torch: pyproject.toml $(SOURCES)
	mkdir -p $(BENCH)
	test -x $(BENCH)/torch/bin/python || $(PYTHON) -m venv $(BENCH)/torch
	$(BENCH)/torch/bin/python -m pip --disable-pip-version-check --quiet install torch==2.13.0
	$(BENCH)/torch/bin/python -m pip --disable-pip-version-check --quiet install '.[train]'
	touch $@

$(BENCH)/.keras:
	mkdir -p $(BENCH)
	test -x $(BENCH)/keras/bin/python || $(PYTHON) -m venv $(BENCH)/keras
	$(BENCH)/keras/bin/python -m pip --disable-pip-version-check --quiet install tensorflow-cpu
	touch $@

clean:
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
