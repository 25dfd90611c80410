# The study as a graph of files. `make` alone prints help.
#
# Python checks the variables and finds what each notebook depends on (lib/pipeline/); its answer is included below as
# a makefile. Make decides by time which step to call; a step decides by content whether to run.

USER_VARIABLES := DATA RUNS EPOCHS SET SPLIT SIZE RESIZE MIN_PICTURES EXCLUDE_KAGGLE_TEST CORRECTIONS OUTPUTS MODEL CLUSTER
USER_VARIABLES += NEAR_RMS NEAR_BITS SAME_RMS SWEEP IMAGE MODEL_DIR RUN HOST PORT
export GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command%,$(origin $(name))),$(name)))  # before all of them are overrides
# Taken as they are, since make would expand a `$` in a file name; and handed on by the environment, not by a shell.
$(foreach name,$(USER_VARIABLES),$(eval override export $(name) := $$(value $(name))))
# Text is UTF-8 in every locale. A make started from here would take MAKECMDGOALS from the environment for its own goals.
export GOALS := $(MAKECMDGOALS)
export PYTHONUTF8 := 1
unexport PYTHONINSPECT PYTHONOPTIMIZE PYTHONIOENCODING PYTHONWARNINGS  # a prompt after each step, no --help, ASCII alone, warnings as errors

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# ---------------------------------------------------------------- environment
# An active environment is used when it has this project's package, else .venv is made.
ACTIVE := $(shell [ -n "$$VIRTUAL_ENV$$CONDA_PREFIX" ] && python -I -c 'import importlib.util as u, sys; sys.exit(not (u.find_spec("lib") and u.find_spec("papermill")))' 2>/dev/null && command -v python)
PYTHON := $(or $(ACTIVE),.venv/bin/python)
ENVIRONMENT := $(if $(ACTIVE),,.venv/.installed)

# uv installs several times as fast as pip. Bytecode is compiled now.
.venv/.installed: pyproject.toml constraints.txt
	@python=$$(for p in python3.13 python3.12 python3.11 python3; do \
	  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && command -v $$p && break; done); \
	[ -n "$$python" ] || { echo "error: Python 3.11, 3.12 or 3.13 is needed and was not found; install one, or use \`conda env create -f environment.yml\`" >&2; exit 2; }; \
	echo "Making the environment .venv with $$python" >&2; \
	uv=$$(command -v uv) || { "$$python" -m venv .venv && .venv/bin/python -m pip install --quiet --disable-pip-version-check uv && uv=.venv/bin/uv; } || exit 2; \
	"$$uv" venv --quiet --allow-existing --python "$$python" .venv && \
	"$$uv" pip install --quiet --compile-bytecode --python .venv/bin/python -e '.[dev]' -c constraints.txt && touch $@

constraints: ## resolve the dependencies of pyproject.toml again into constraints.txt (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-annotate --no-header --upgrade -q -o constraints.txt

# ---------------------------------------------------------------- pictures → manifest → run → metrics
STEP := @$(PYTHON) -m lib.pipeline
ifneq ($(filter-out help test lint bench constraints .venv/.installed,$(or $(MAKECMDGOALS),help)),)
# Written once per call, then make starts over with it. It exists from the beginning, or make would complain.
quoted = '$(subst ','\'',$(1))'
PLAN := .make/$(shell printf '%s\n' $(foreach name,$(USER_VARIABLES),$(call quoted,$($(name)))) | cksum | tr ' ' '-').mk
$(shell mkdir -p .make && { [ -e $(PLAN) ] || touch -t 200001010000 $(PLAN); })
$(PLAN): $(ENVIRONMENT) $(if $(MAKE_RESTARTS),,FORCE)
	@$(PYTHON) -m lib.pipeline plan > $@.$$$$ && mv -f $@.$$$$ $@ || { rm -f $@.$$$$; exit 2; }
FORCE:
include $(PLAN)
endif

TRAINED := $(RUN_NAMES:%=$(RUNS_DIR)/%/run.json)
EVALUATED := $(RUN_NAMES:%=$(RUNS_DIR)/%/metrics.json)
ROBUSTNESS_FILES := $(RUN_NAMES:%=$(RUNS_DIR)/%/robustness.csv)
.PRECIOUS: $(RAW)/source.json $(PREPARED)/manifest.csv $(TRAINED) $(EVALUATED) $(ROBUSTNESS_FILES)  # not removed by Ctrl-C

# Fetched again when the source has changed.
$(RAW)/source.json: $(SOURCE_CHANGED) | $(ENVIRONMENT)
	$(STEP) fetch
$(PREPARED)/manifest.csv: $(RAW)/source.json $(PREPARED)/request.json $(PREPARE_CODE)
	$(STEP) prepare

ifneq ($(CLUSTER),)
# One command for all runs: it hands those that are not up to date to the workers, and is silent where all are.
$(TRAINED) $(EVALUATED) $(ROBUSTNESS_FILES): cluster ;
cluster: $(PREPARED)/manifest.csv
	$(STEP) cluster
else
$(TRAINED): $(RUNS_DIR)/%/run.json: $(PREPARED)/manifest.csv $(RUNS_DIR)/%/recipe.json $(TRAIN_CODE)
	$(STEP) train $*
$(EVALUATED): $(RUNS_DIR)/%/metrics.json: $(RUNS_DIR)/%/run.json $(EVALUATE_CODE)
	$(STEP) evaluate $*
# After the evaluation, where both are asked for: they work in one folder.
$(ROBUSTNESS_FILES): $(RUNS_DIR)/%/robustness.csv: $(RUNS_DIR)/%/run.json $(ROBUSTNESS_CODE) | $(if $(filter evaluate,$(MAKECMDGOALS)),$(RUNS_DIR)/%/metrics.json)
	$(STEP) robustness $*
endif

$(RUNS_DIR)/summary.txt: $(EVALUATED) $(RUNS_DIR)/summary.json
	$(STEP) summary

data: $(PREPARED)/manifest.csv ## prepare the pictures of DATA: manifest, splits, images.npy
train: $(TRAINED) ## train every run in RUNS; a killed training continues from its last epoch
evaluate: $(RUNS_DIR)/summary.txt ## evaluate every run in RUNS and print the table
robustness: $(ROBUSTNESS_FILES) ## score every run in RUNS on corrupted pictures, such as people upload

# Commands of Python that have the name of their goal.
COMMANDS := sweep compare unknown refit publish predict dashboard site lab report review explore docs
sweep: $(PREPARED)/manifest.csv ## try the recipes of SWEEP=notebooks/params/sweeps/lr.yaml; validation chooses the best
compare: $(ENVIRONMENT) ## one table and one figure of all finished runs of DATA
unknown: $(PREPARED)/manifest.csv ## leave characters out of a training and ask about them: which score distinguishes them?
refit: $(EVALUATED) ## train every run in RUNS once more, on the frames of all splits: the network that `make publish MODEL=1` ships
# Runs of the ablation are compared on validation alone.
publish: $(filter-out $(RUNS_DIR)/ablation/%,$(EVALUATED)) $(filter $(RUNS_DIR)/ablation/%,$(TRAINED)) ## copy the records of RUNS to outputs/published; MODEL=1: network and model card too
predict: $(ENVIRONMENT) ## name the character in IMAGE=path, folder or URL; MODEL_DIR=run folder of another network
dashboard: $(ENVIRONMENT) ## serve the page on PORT (8866) of HOST (127.0.0.1); MODEL_DIR=run folder of another network
site: $(ENVIRONMENT) ## write outputs/site, the page without a server, for any static host; MODEL_DIR=run folder of another network
lab: $(ENVIRONMENT) ## open the notebooks and the reports in JupyterLab
report: $(ENVIRONMENT) ## open the reports of RUN as web pages
review: $(PREPARED)/manifest.csv ## look at the labels that are likely to be wrong; verdicts are kept in data/corrections.csv
explore: $(ENVIRONMENT) ## open the mistakes of RUN: confusion matrix, pictures, probabilities
docs: $(ENVIRONMENT) ## write the tables in docs/ that are generated from the code
$(COMMANDS):
	$(STEP) $@
study: $(ENVIRONMENT) ## write docs/study: the notebooks executed on the drawn sample and the published records
	@$(MAKE) train evaluate robustness $(USER_VARIABLES:%=%=)
	@env $(USER_VARIABLES:%=%=) $(PYTHON) -m lib.pipeline study

# ---------------------------------------------------------------- care
test: $(ENVIRONMENT) ## run every test, a file at a time in several processes; outputs/coverage shows the lines that none reaches
	$(PYTHON) -m pytest -n auto --dist loadfile --no-loadscope-reorder --cov --cov-report=html
	@echo "The tests reach $$($(PYTHON) -m coverage report --format=total) % of the lines of lib; outputs/coverage/index.html shows the others."

lint: $(ENVIRONMENT) ## check style, the import order, and that notebooks are stored without outputs
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(dir $(PYTHON))lint-imports --no-cache
	$(PYTHON) -m nbstripout --keep-id --verify notebooks/*.ipynb

bench: $(ENVIRONMENT) ## run the benchmarks; each prints a ratio
	$(PYTHON) -m tests.benchmarks

clean: $(ENVIRONMENT) ## remove what was made of DATA: prepared pictures and runs (raw pictures and published records stay)
	rm -rf $(PREPARED) $(RUNS_DIR)

help: ## print this
	@printf 'Recognise the characters of The Simpsons. Start with: make train evaluate\n\n'
	@grep -hE '^[a-z]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'
	@printf '\nVariables: docs/configuration.md. Most used: DATA=kaggle or a path, RUNS="cnn4 cnn6", EPOCHS=10.\n'

.PHONY: FORCE constraints data cluster train evaluate robustness $(COMMANDS) study test lint bench clean help
