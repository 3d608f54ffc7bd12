# Two stages: features (once), then cross-validation from the cache. `make help` explains.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CORPUS ?= demo
ROOT ?= data/$(CORPUS)
CACHE ?= cache/$(CORPUS)
LABEL_SET ?=
PROTOCOL ?= strict
RUN ?= runs/$(CORPUS)$(addprefix -,$(LABEL_SET))$(addprefix -,$(filter-out strict,$(PROTOCOL)))
GRIDS ?= table1 table2 table3 table4 readings protocols
ARGS ?=
FEATURE_ARGS ?=
W2V2 ?=
TAILS ?=
PYTHON ?= python3

# The demo brings its own tiny encoder; every other corpus uses HuBERT base unless told otherwise.
ifeq ($(CORPUS),demo)
BACKBONE ?= $(ROOT)/hubert-demo
else
BACKBONE ?= facebook/hubert-base-ls960
endif

VENV := .venv
INSTALLED := $(VENV)/.installed
MANIFEST ?= manifests/$(CORPUS).csv
LABELS := $(if $(LABEL_SET),--label-set $(LABEL_SET))
FEATURES = $(VENV)/bin/mfhca-cache features "$(MANIFEST)" --root "$(ROOT)" --cache "$(CACHE)" $(LABELS)
STATUS = $(VENV)/bin/mfhca-cache status "$(MANIFEST)" --root "$(ROOT)" --cache "$(CACHE)" --backbone "$(BACKBONE)" $(LABELS) $(FEATURE_ARGS)

.PHONY: help install doctor manifest features status verify cv ablations report test lint docs acceptance torture bench clean

help: ## list the targets and variables
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20
	@echo
	@echo "Variables: CORPUS=$(CORPUS) ROOT=$(ROOT) BACKBONE=$(BACKBONE)"
	@echo "           CACHE=$(CACHE) RUN=$(RUN) LABEL_SET=$(LABEL_SET) PROTOCOL=$(PROTOCOL)"
	@echo "           ARGS= further options of cv or ablate (e.g. ARGS='--set train.lr=1e-4 --seeds 3')"
	@echo "           GRIDS= of ablations, from manifests/ablations (default: all; e.g. GRIDS='table2 protocols')"
	@echo "           FEATURE_ARGS= further options of features, status and doctor (e.g. FEATURE_ARGS='--tail overlap')"
	@echo "           W2V2= wav2vec 2.0 beside BACKBONE, TAILS=1 also tails moved back and dropped: features of ablations"

# The tested PyTorch is only for an environment that has none: one that the user installed stays as it is.
CONSTRAINT = $(if $(wildcard $(VENV)/lib/python*/site-packages/torch),,--constraint constraints.txt)

install: $(INSTALLED) ## create .venv with everything in it

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; say which one to use: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet $(CONSTRAINT) --editable '.[dev]'
	@touch $@

$(MANIFEST): | $(INSTALLED)
	$(VENV)/bin/mfhca-cache manifest $(CORPUS) --root "$(ROOT)" --out "$(MANIFEST)"

ifeq ($(CORPUS),demo)
# The demo is made by the same command, also where only its audio was deleted.
$(ROOT)/hubert-demo/config.json: | $(INSTALLED)
	$(VENV)/bin/mfhca-cache manifest demo --root "$(ROOT)" --out "$(MANIFEST)"

features ablations: $(ROOT)/hubert-demo/config.json
endif

doctor: $(INSTALLED) ## is all ready: packages, disk, device, hub, and what this corpus lacks
	$(VENV)/bin/mfhca-cache doctor "$(MANIFEST)" --root "$(ROOT)" --cache "$(CACHE)" --backbone "$(BACKBONE)" $(LABELS) $(FEATURE_ARGS)

manifest: $(MANIFEST) ## list the corpus' utterances in manifests/CORPUS.csv

features: $(INSTALLED) $(MANIFEST) ## stage one: run the frozen encoder once, fill the cache
	$(FEATURES) --backbone "$(BACKBONE)" $(FEATURE_ARGS)

status: $(INSTALLED) $(MANIFEST) ## what the cache has, lacks, and holds of an older state
	$(STATUS)

verify: $(INSTALLED) ## recompute the digest of every shard
	$(VENV)/bin/mfhca-cache verify --cache "$(CACHE)"

# A cache may hold more: cv is told which recipes BACKBONE and FEATURE_ARGS mean.
cv: features ## stage two: train and test every fold, write RUN/report.html
	names=$$($(STATUS) --names) && $(VENV)/bin/mfhca-train cv "$(MANIFEST)" --root "$(ROOT)" --cache "$(CACHE)" \
	  --out "$(RUN)" --protocol $(PROTOCOL) $(LABELS) $$names $(ARGS)

# Grids lie side by side, so that a row that several of them have is trained once. All that the rows read goes into
# one cache: what needs no encoder always, another encoder and other tails when asked for. The default kinds are
# named each time, so that whatever FEATURE_ARGS says has a meaning; what is there already is not computed again.
ablations: $(INSTALLED) $(MANIFEST) ## features of the rows of GRIDS (see W2V2, TAILS), then train and compare them, each grid in RUN-grid
	$(FEATURES) --backbone "$(BACKBONE)" --kind logspec --kind ssl --kind mfcc --kind logmel $(FEATURE_ARGS)
	$(if $(W2V2),$(FEATURES) --backbone "$(W2V2)" --kind logspec --kind ssl $(FEATURE_ARGS))
	$(foreach tail,$(if $(filter 1,$(TAILS)),overlap drop,$(TAILS)),$(FEATURES) --backbone "$(BACKBONE)" --kind logspec --kind ssl $(FEATURE_ARGS) --tail $(tail) &&) true
	set -e; for grid in $(GRIDS); do \
	  $(VENV)/bin/mfhca-train ablate manifests/ablations/$$grid.toml "$(MANIFEST)" --root "$(ROOT)" --cache "$(CACHE)" \
	    --out "$(RUN)-$$grid" --skip-missing $(if $(filter-out strict,$(PROTOCOL)),--protocol $(PROTOCOL)) $(LABELS) $(ARGS); \
	done

report: $(INSTALLED) ## write RUN/report.html again
	$(VENV)/bin/mfhca-train report "$(RUN)"

# A file of tests stays in one process: its fixtures are dear.
test: $(INSTALLED) ## run the tests, a process for each core
	$(VENV)/bin/python -m pytest --numprocesses auto --dist loadfile

lint: $(INSTALLED) ## ruff, mypy, the imports between rooms, and docs/ built strictly
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mkdocs build --strict

docs: $(INSTALLED) ## build docs/ into site/; a broken link or a page outside the navigation is an error
	$(VENV)/bin/mkdocs build --strict

acceptance: $(INSTALLED) ## build the packages, install the wheel into an empty environment, walk from EmoDB to a prediction
	$(VENV)/bin/python -m pytest -x -s --verbose --durations=0 tests/acceptance/stranger.py

torture: $(INSTALLED) ## the fault suite in its long form: kills, flipped bits, full disks, edits; goes on if interrupted
	PYTHONPATH=tests:tests/factories $(VENV)/bin/python -m faults.torture $(ARGS); found=$$?; $(VENV)/bin/python -m bench.readme && exit $$found

bench: $(INSTALLED) ## measure speed and memory, write bench/results.md (ARGS=--quick: only try it out)
	$(VENV)/bin/python -m bench $(ARGS)
	$(VENV)/bin/python -m bench.readme

clean: ## remove .venv and tool caches (features and runs stay)
	rm -rf $(VENV) .torture .pytest_cache .mypy_cache .ruff_cache .hypothesis
