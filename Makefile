# `make quickstart`, `make test` and `make ablation`. Each installs what it needs into .venv first.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# One thread a rank: two ranks share two cores.
CPU := DS_ACCELERATOR=cpu OMP_NUM_THREADS=1
RECIPE := recipes/quickstart.yaml
CONFIG := ds_configs/cpu_pipeline2.json
RUN := runs/quickstart
# Overrides for the recipe, as in `make quickstart SET="--set schedule.stages.0.steps=1000"`.
SET :=
# As in `make ablation SIZE=gpu ARGS="--data corpora/lo10 --seeds 1,2,3"`.
TABLE := recipes/lo10/ablation.yaml
SIZE := cpu
ARGS :=

.PHONY: quickstart test test-image drill reshard lint ablation

quickstart: $(INSTALLED)
	$(BIN)/python launchers/quickstart_corpus.py corpora/quickstart
	$(BIN)/tsjt prepare $(RECIPE) $(SET)
	$(CPU) $(BIN)/deepspeed -q --num_gpus 2 launchers/train.py --recipe $(RECIPE) \
		--deepspeed_config $(CONFIG) $(SET)
	$(BIN)/tsjt evaluate $(RUN)

ablation: $(INSTALLED)
	$(BIN)/python launchers/ablation.py $(TABLE) --size $(SIZE) $(ARGS)

# Three files of tests at a time: most of them leave one of two cores idle. Order: tests/conftest.py.
test: $(INSTALLED)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# The variables it goes by are told in its first lines.
test-image:
	tests/image/test_image.sh

.PHONY: test-slurm test-multihost
# On a SLURM cluster of two nodes, set up here and taken down again; needs root.
test-slurm: $(INSTALLED)
	TSJT_TEST_SLURM=1 $(BIN)/python -m pytest -v tests/slurm

# On two hosts, as network namespaces; needs root.
test-multihost: $(INSTALLED)
	TSJT_TEST_MULTIHOST=1 $(BIN)/python -m pytest -v tests/multihost

# From every layout and ZeRO stage to every other.
reshard: $(INSTALLED)
	$(CPU) $(BIN)/python -W ignore -m benchmarks.reshard_matrix $(ARGS)

# A hundred thousand hostile inputs to readers and cleaners; tally at the end.
.PHONY: fuzz
fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz --inputs 100000

# Thirty faults; report in runs/drill/report.txt.
drill: $(INSTALLED)
	$(CPU) $(BIN)/python -m tests.drill

lint: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

# torch goes first: where pip's configuration has a CPU build, that one is taken.
$(INSTALLED): pyproject.toml constraints.txt
	@test -d .venv || $(PYTHON) -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON): no Python >= 3.11 with venv (name one: PYTHON=python3.12)"; exit 1; }
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt setuptools wheel torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@
