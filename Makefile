# Every verb of the workspace. Needs Python 3.11+ and make; uv is fetched into .tools/ when it is not installed.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Every folder in packages/ is a package; those with a trainer have the module training/train.py.
PACKAGES := $(sort $(patsubst packages/%/pyproject.toml,%,$(wildcard packages/*/pyproject.toml)))
TRAINED := $(foreach package,$(PACKAGES),$(if $(wildcard packages/$(package)/src/*/training/train.py),$(package)))
# Exactly this version, where uv is not installed.
UV_VERSION := 0.13.9
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p && break; done)
UV ?= $(shell command -v uv || echo .tools/bin/uv)
export UV_PYTHON_DOWNLOADS ?= never
SYNC := $(UV) sync --quiet --locked --all-packages --all-extras --group dev
RUN := $(UV) run --no-sync
# Versions of the dependencies for the tests of one package: --locked, --upgrade, or --resolution lowest-direct.
RESOLUTION ?= --locked
# Fast tests share the cores by files: what a module prepares is prepared once. In the order given: tests/ has the files
# that take longest, which would otherwise be left to one core at the end.
JOBS ?= 2
PYTEST := pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Training: processes per machine, machines, experiment, further overrides, and where to run (local or slurm).
GPUS ?= 1
NODES ?= 1
CONFIG ?= debug
ARGS ?=
LAUNCHER ?= local

.PHONY: help
help: ## list the verbs
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'
	@echo "  packages: $(PACKAGES), and shared for test-shared and build-shared"

# For the job matrices of continuous integration: a list in JSON, of the packages and of what is in shared/.
.PHONY: list-packages list-distributions
list-packages:
	@$(PYTHON) -c 'import json, sys; print(json.dumps(sys.argv[1:]))' $(PACKAGES)
list-distributions:
	@$(PYTHON) -c 'import json, sys; print(json.dumps(sys.argv[1:]))' shared $(PACKAGES)

.tools/bin/uv:
	@echo "uv is not installed; fetching it into .tools/ (the system Python is not touched)"
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check 'uv==$(UV_VERSION)'

.PHONY: setup
setup: $(filter .tools/bin/uv,$(UV)) ## install all packages with all extras into .venv
	$(SYNC)

# Eight pieces, two for each of the model's prompts; how close they are to the demo scores by an encoder; and where a
# melody is that somebody hums in another key than that of the score; $(1) is the folder.
ENCODER = ngrams
define PIECES
$(RUN) notagen generate --number 8 --formats abc,musicxml,midi --max-patches 400 --out $(1)/pieces --page $(1)/index.html
$(RUN) notagen score $(1)/pieces/*.abc --references packages/notagen/demo --model $(ENCODER) --nearest 2 --each --page $(1)/index.html
$(RUN) notagen search --melody "A B c A A G E G" --index packages/notagen/demo --page $(1)/index.html
endef

# A library of the demo recordings, and a playlist like two of them; $(1) is the folder.
define LIBRARY
$(RUN) myna-rpe library scan packages/myna-rpe/demo --index $(1)/library
$(RUN) myna-rpe library similar "Durang's Hornpipe" --index $(1)/library --count 3
$(RUN) myna-rpe playlist make --like "Garry Owen" --like "Arkansas Traveller" --include-seed --count 3 --index $(1)/library --out $(1)/dances.m3u8
$(RUN) myna-rpe playlist page $(1)/dances.m3u8 --index $(1)/library --neighbours 6 --embed-audio --out $(1)/index.html
endef

# Windows of beatmaps, what they resemble, and a map of maps; $(1) is the folder.
define BEATMAPS
$(RUN) cm3p embed packages/cm3p/demo --out $(1)/beatmaps.parquet
$(RUN) cm3p search $(1)/beatmaps.parquet --like 14001177 --ignore-set --count 3
$(RUN) cm3p explore $(1)/beatmaps.parquet --out $(1)/map-of-maps.html
$(RUN) cm3p demo packages/cm3p/demo --page $(1)/index.html
endef

# Sounds from prompts and from the clips of a bank that are nearest to them; $(1) is the folder.
define SOUNDS
$(RUN) rc-audioldm demo packages/rc-audioldm/demo --page $(1)/index.html
endef

.PHONY: demo
demo: setup ## embed recordings, write music and search a melody, make a playlist from sound, compare beatmaps, make sounds; writes out/demo/index.html
	rm -rf out/demo
	$(RUN) omar-rq demo packages/omar-rq/demo --out out/demo
	$(call PIECES,out/demo)
	$(call LIBRARY,out/demo)
	$(call BEATMAPS,out/demo)
	$(call SOUNDS,out/demo)

.PHONY: demo-omar-rq demo-notagen demo-myna-rpe demo-cm3p demo-rc-audioldm
demo-omar-rq: setup ## the demo of one package, such as demo-notagen
	$(RUN) omar-rq demo packages/omar-rq/demo --out out/omar-rq
demo-notagen: setup
	rm -rf out/notagen
	$(call PIECES,out/notagen)
demo-myna-rpe: setup
	rm -rf out/myna-rpe
	$(call LIBRARY,out/myna-rpe)
demo-cm3p: setup
	rm -rf out/cm3p
	mkdir -p out/cm3p
	$(call BEATMAPS,out/cm3p)
demo-rc-audioldm: setup
	rm -rf out/rc-audioldm
	$(call SOUNDS,out/rc-audioldm)

.PHONY: test
test: setup ## all fast tests
	$(RUN) $(PYTEST) tests shared/tests $(wildcard packages/*/tests)

# An environment of its own, in which no other package of the workspace can be imported.
.PHONY: test-shared $(PACKAGES:%=test-%)
test-shared: $(filter .tools/bin/uv,$(UV)) ## tests of the shared package alone
	$(UV) run $(RESOLUTION) --isolated --package pentatonic --all-extras --group test --group oracle $(PYTEST) shared/tests
$(PACKAGES:%=test-%): test-%: $(filter .tools/bin/uv,$(UV))
	$(UV) run $(RESOLUTION) --isolated --package $* --all-extras --group test --group oracle $(PYTEST) packages/$*/tests
test-%: ## tests of one package alone, such as test-omar-rq

.PHONY: test-slow test-gpu
test-slow: setup ## tests that take longer: kill-and-resume, long files
	$(RUN) pytest -q -m slow shared/tests $(PACKAGES:%=packages/%/tests) tests
test-gpu: setup ## tests that need a CUDA device; skipped without one
	$(RUN) pytest -q -m gpu shared/tests $(PACKAGES:%=packages/%/tests) tests

.PHONY: lint format typecheck
lint: setup ## ruff
	$(RUN) ruff check .
	$(RUN) ruff format --check .
format: setup ## ruff, changing files
	$(RUN) ruff check --fix .
	$(RUN) ruff format .
typecheck: setup ## pyright
	$(RUN) pyright

# Every launcher runs this module with these arguments.
TRAIN = $(subst -,_,$*) train experiment=$(CONFIG) $(ARGS)

# One process without accelerate's launcher, more through it; Slurm starts its own.
.PHONY: $(TRAINED:%=train-%)
$(TRAINED:%=train-%): train-%: setup
ifeq ($(LAUNCHER),slurm)
	mkdir -p runs
	sbatch --nodes=$(NODES) --gpus-per-node=$(GPUS) --ntasks-per-node=$(GPUS) configs/launcher/slurm.sbatch $(TRAIN)
else ifeq ($(NODES)-$(GPUS),1-1)
	$(RUN) python -m $(TRAIN)
else ifeq ($(NODES),1)
	$(RUN) accelerate launch --config_file configs/accelerate/ddp.yaml --num_processes $(GPUS) -m $(TRAIN)
else
	$(RUN) accelerate launch --config_file configs/accelerate/multinode.yaml \
	  --num_machines $(NODES) --num_processes $$(( $(NODES) * $(GPUS) )) --machine_rank $${MACHINE_RANK:?rank of this machine} \
	  --main_process_ip $${MAIN_ADDRESS:?address of machine 0} -m $(TRAIN)
endif
train-%: ## train: GPUS=8 NODES=1 CONFIG=base ARGS="data.root=…" [LAUNCHER=slurm]

.PHONY: bench
bench: setup ## benchmarks; writes benchmarks/results/<device>/
	for subject in benchmarks/*.py; do case $$subject in */machine.py) ;; *) $(RUN) python $$subject;; esac; done

.PHONY: docs
docs: setup ## documentation site into site/
	$(UV) run --locked --all-packages --group docs mkdocs build --strict

# The wheel goes into an empty environment with the wheel of the shared package and must work there.
.PHONY: build-shared $(PACKAGES:%=build-%)
build-shared: $(filter .tools/bin/uv,$(UV))
	$(UV) build --quiet --package pentatonic --no-sources --out-dir dist
$(PACKAGES:%=build-%): build-%: build-shared
	$(UV) build --quiet --package $* --no-sources --out-dir dist
	UV=$(UV) tests/smoke/$*.sh dist
build-%: ## build one wheel and try it in an empty environment

.PHONY: check
check: lint typecheck test $(PACKAGES:%=build-%) ## everything a change must pass
