# Two stages: features (once), then cross-validation from the cache. See `make help`.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CORPUS ?= demo
ROOT ?= data/$(CORPUS)
CACHE ?= cache/$(CORPUS)
LABEL_SET ?=
PROTOCOL ?= strict
RUN ?= runs/$(CORPUS)$(addprefix -,$(LABEL_SET))$(addprefix -,$(filter-out strict,$(PROTOCOL)))
GRIDS ?= table1 table2 table3 table4 variants protocols
ARGS ?=
FEATURE_ARGS ?=
W2V2 ?=
TAILS ?=
PYTHON ?= python3

# A variable in small letters would be ignored by make: `make cv corpus=emodb` would run the demo.
VARIABLES := CORPUS ROOT CACHE LABEL_SET PROTOCOL RUN GRIDS ARGS FEATURE_ARGS W2V2 TAILS PYTHON BACKBONE MANIFEST
lower = $(shell echo $(1) | tr A-Z a-z)
$(foreach name,$(VARIABLES),$(if $(filter command,$(origin $(call lower,$(name)))),\
  $(error $(call lower,$(name))= has no effect; write $(name)=)))

# The demo has its own tiny encoder; for every other corpus HuBERT base is the default.
ifeq ($(CORPUS),demo)
BACKBONE ?= $(ROOT)/hubert-demo
else
BACKBONE ?= facebook/hubert-base-ls960
endif

VENV := .venv
INSTALLED := $(VENV)/.installed
DEVELOPED := $(VENV)/.developed
MANIFEST ?= manifests/$(CORPUS).csv
LABELS := $(if $(LABEL_SET),--label-set $(LABEL_SET))
FEATURES = $(VENV)/bin/mfhca-cache features "$(MANIFEST)" --root "$(ROOT)" --cache "$(CACHE)" $(LABELS)
STATUS = $(VENV)/bin/mfhca-cache status "$(MANIFEST)" --root "$(ROOT)" --cache "$(CACHE)" --backbone "$(BACKBONE)" $(LABELS) $(FEATURE_ARGS)

# Error messages of these targets name the variables of this file besides options.
doctor manifest features status verify cv ablations report: export MFHCA_MAKE = 1

.PHONY: help install doctor manifest features status verify cv ablations report test lint docs acceptance torture picture bench clean

help: ## list the targets and variables
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20
	@echo
	@echo "Variables: CORPUS=$(CORPUS) ROOT=$(ROOT) BACKBONE=$(BACKBONE)"
	@echo "           CACHE=$(CACHE) RUN=$(RUN) LABEL_SET=$(LABEL_SET) PROTOCOL=$(PROTOCOL)"
	@echo "           ARGS= further options of cv or ablate (e.g. ARGS='--set train.lr=1e-4 --seeds 3')"
	@echo "           GRIDS= of ablations, from manifests/ablations (default: all; e.g. GRIDS='table2 protocols')"
	@echo "           FEATURE_ARGS= further options of features, status and doctor (e.g. FEATURE_ARGS='--tail overlap')"
	@echo "           ablations: W2V2= wav2vec 2.0 in addition to BACKBONE; TAILS=1 tails moved back and dropped, too"

# The tested PyTorch is only for an environment that has none: one that the user installed stays as it is.
CONSTRAINT = $(if $(wildcard $(VENV)/lib/python*/site-packages/torch),,--constraint constraints.txt)

install: $(INSTALLED) ## create .venv with the package and what it needs

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; say which one to use: make PYTHON=python3.11"; exit 1; }
	@echo "Installing into $(VENV). PyTorch, if it is missing, is the largest download: 0.2 GB for CPU, 3 GB with CUDA."
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install $(CONSTRAINT) --editable .
	@touch $@

# For those who change the code: tests, linters, docs and the optional tools that the tests read and write.
$(DEVELOPED): $(INSTALLED)
	@echo "Installing the tools for tests and docs, about 0.5 GB."
	$(VENV)/bin/python -m pip install $(CONSTRAINT) --editable '.[dev]'
	@touch $@

SCAN = $(VENV)/bin/mfhca-cache manifest $(CORPUS) --root "$(ROOT)" --out "$(MANIFEST)"

$(MANIFEST): | $(INSTALLED)
	$(SCAN)

ifeq ($(CORPUS),demo)
# The same command creates the demo again if its audio was deleted.
$(ROOT)/hubert-demo/config.json: | $(INSTALLED)
	$(SCAN)

features ablations: $(ROOT)/hubert-demo/config.json
endif

doctor: $(INSTALLED) ## check packages, disk, device, hub, and what is missing for this corpus
	$(VENV)/bin/mfhca-cache doctor "$(MANIFEST)" --root "$(ROOT)" --cache "$(CACHE)" --backbone "$(BACKBONE)" $(LABELS) $(FEATURE_ARGS)

# It is scanned each time: the folder may be another one or have new recordings. An edited manifest is not replaced.
manifest: $(INSTALLED) ## list the utterances of the corpus in manifests/CORPUS.csv
	$(SCAN)

features: $(INSTALLED) $(MANIFEST) ## stage one: run the frozen encoder once, fill the cache
	$(FEATURES) --backbone "$(BACKBONE)" $(FEATURE_ARGS)

status: $(INSTALLED) $(MANIFEST) ## show what the cache has, and what is missing or stale
	$(STATUS)

verify: $(INSTALLED) ## recompute the digest of every shard
	$(VENV)/bin/mfhca-cache verify --cache "$(CACHE)"

# If the cache has several recipes, cv uses those of BACKBONE and FEATURE_ARGS.
cv: features ## stage two: train and test every fold, write RUN/report.html
	names=$$($(STATUS) --names) && $(VENV)/bin/mfhca-train cv "$(MANIFEST)" --root "$(ROOT)" --cache "$(CACHE)" \
	  --out "$(RUN)" --protocol $(PROTOCOL) $(LABELS) $$names $(ARGS)

# All grids write next to each other, so that a row that several of them have is trained once. All features go into one
# cache: those without an encoder always, another encoder and other tails on request. The default kinds are named each
# time, so that every option in FEATURE_ARGS applies; what is in the cache is not computed again.
ablations: $(INSTALLED) $(MANIFEST) ## compute the features of the rows of GRIDS (see W2V2, TAILS), train and compare them, each grid in RUN-grid
	$(FEATURES) --backbone "$(BACKBONE)" --kind logspec --kind ssl --kind mfcc --kind logmel $(FEATURE_ARGS)
	$(if $(W2V2),$(FEATURES) --backbone "$(W2V2)" --kind logspec --kind ssl $(FEATURE_ARGS))
	$(foreach tail,$(if $(filter 1,$(TAILS)),overlap drop,$(TAILS)),$(FEATURES) --backbone "$(BACKBONE)" --kind logspec --kind ssl $(FEATURE_ARGS) --tail $(tail) &&) true
	set -e; for grid in $(GRIDS); do \
	  $(VENV)/bin/mfhca-train ablate manifests/ablations/$$grid.toml "$(MANIFEST)" --root "$(ROOT)" --cache "$(CACHE)" \
	    --out "$(RUN)-$$grid" --skip-missing $(if $(filter-out strict,$(PROTOCOL)),--protocol $(PROTOCOL)) $(LABELS) $(ARGS); \
	done

report: $(INSTALLED) ## write RUN/report.html again
	$(VENV)/bin/mfhca-train report "$(RUN)"

# The tests of a file stay in one process: their fixtures are expensive.
test: $(DEVELOPED) ## run the tests, one process per core
	$(VENV)/bin/python -m pytest --numprocesses auto --dist loadfile

lint: $(DEVELOPED) ## ruff, mypy, the imports between rooms, and a strict build of docs/
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

docs: $(DEVELOPED) ## build docs/ into site/, without warnings
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

acceptance: $(DEVELOPED) ## build the packages, install the wheel into an empty environment, go from EmoDB to a prediction
	$(VENV)/bin/python -m pytest -x -s --verbose --durations=0 tests/acceptance/stranger.py

torture: $(DEVELOPED) ## the long form of the fault suite: kills, flipped bits, full disks, edits; resumes if interrupted
	PYTHONPATH=tests:tests/factories $(VENV)/bin/python -m faults.torture $(ARGS); found=$$?; $(VENV)/bin/python -m bench.readme && exit $$found

picture: $(INSTALLED) ## take the picture of RUN/report.html for README and docs; needs Chromium
	$(VENV)/bin/python -m bench.screenshot "$(RUN)"

bench: $(INSTALLED) ## measure speed and memory, write bench/results.md (ARGS=--quick: a trial run)
	$(VENV)/bin/python -m bench $(ARGS)
	$(VENV)/bin/python -m bench.readme

clean: ## remove .venv and tool caches (features and runs are kept)
	rm -rf $(VENV) .torture .pytest_cache .mypy_cache .ruff_cache .hypothesis
