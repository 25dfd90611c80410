# The study as a graph of files. `make` alone prints help.

DATA ?= sample
RUNS ?= cnn4 cnn6
SPLIT ?= grouped
OUTPUTS ?= outputs
EXCLUDE_KAGGLE_TEST ?= 0
SIZE ?= 64
FIT ?= stretch
# The original project kept characters of 290 frames or more; the drawn set has fewer of each.
MIN_PICTURES ?= $(if $(filter sample,$(DATA)),20,290)
# The recipes' own epochs are for the real pictures; the drawn set is learnt in minutes.
EPOCHS ?= $(if $(filter sample,$(DATA)),32)
MODEL ?= 0
PORT ?= 8866
HOST ?= 127.0.0.1

.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --no-print-directory
SHELL := /bin/sh

# ---------------------------------------------------------------- names

PARAMETER_FILES := $(wildcard notebooks/params/*.yaml notebooks/params/ablation/*.yaml)
KNOWN_RUNS := $(PARAMETER_FILES:notebooks/params/%.yaml=%)
override RUNS := $(if $(filter all,$(RUNS)),$(filter-out ablation/%,$(KNOWN_RUNS)),$(RUNS))

quoted = '$(subst ','\'',$(1))'
BASE := $(shell printf '%s' $(call quoted,$(DATA)) | sed -E 's:/+$$::; s:^.*/::; s:\.(zip|tar|tgz|tar\.gz)$$::; s:[^A-Za-z0-9._-]+:-:g; s:^[.-]+::')
NAME := $(BASE)$(if $(filter random,$(SPLIT)),-random)$(if $(filter 1,$(EXCLUDE_KAGGLE_TEST)),-no-kaggle-test)$(if $(filter-out 64,$(SIZE)),-$(SIZE)px)$(if $(filter-out stretch,$(FIT)),-$(FIT))

# The committed records are compared, never made again.
ifneq ($(filter published,$(BASE)),)
override RUNS :=
endif

RAW := data/raw/$(BASE)
PREPARED := data/processed/$(NAME)
OUT := $(OUTPUTS)/$(NAME)
TRAINED := $(RUNS:%=$(OUT)/%/run.json)
EVALUATED := $(RUNS:%=$(OUT)/%/metrics.json)
CHANGED := $(RUNS:%=$(OUT)/%/robustness.csv)
published = outputs/published/$(1)$(if $(filter random,$(SPLIT)),-random)

# ---------------------------------------------------------------- mistakes, told before anything is made

# A misspelt name would be ignored, and something else be made for an hour. Only of the command line: an environment
# holds anything.
VARIABLES := DATA RUNS EPOCHS SPLIT MIN_PICTURES EXCLUDE_KAGGLE_TEST SIZE FIT OUTPUTS MODEL IMAGE RUN PORT HOST TOKEN
VARIABLES += BASE_URL HOSTNAMES BEHIND_PROXY MAX_VISITORS MAX_PREDICTIONS MAKE_AHEAD LEAVE_SECONDS NOTEBOOK
VARIABLES += PYTHON ENVIRONMENT SHELL KERAS_BACKEND SIMPSONS_ARCHIVE KILLS KILL_SEED
UNKNOWN := $(filter-out $(VARIABLES),$(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name))))
ifneq ($(UNKNOWN),)
$(error There is no variable `$(UNKNOWN)`; known: $(VARIABLES). What programs read is set before make: `NAME=value make …`)
endif

whole_number = $(shell printf '%s' $(call quoted,$(1)) | grep -Ex '[1-9][0-9]{0,5}')
PIPELINE_GOALS := data train evaluate robustness publish compare clean
ifneq ($(filter $(PIPELINE_GOALS),$(MAKECMDGOALS)),)
ifeq ($(BASE),)
$(error DATA is empty; give `sample`, `kaggle`, or the path of an archive or a folder of pictures)
endif
ifneq ($(filter published,$(BASE)),)
ifneq ($(filter-out compare,$(filter $(PIPELINE_GOALS),$(MAKECMDGOALS))),)
$(error The name `published` is kept for the committed records, which only `make compare DATA=published` reads; rename the archive or folder)
endif
endif
ifneq ($(words $(OUTPUTS)),1)
$(error OUTPUTS must be the path of a folder without spaces, not `$(OUTPUTS)`)
endif
ifeq ($(strip $(RUNS)$(filter published,$(BASE))),)
$(error RUNS is empty; known runs: $(KNOWN_RUNS))
endif
ifneq ($(filter-out $(KNOWN_RUNS),$(RUNS)),)
$(error RUNS: there is no run `$(filter-out $(KNOWN_RUNS),$(RUNS))`; known: $(KNOWN_RUNS), or `all`; a new one needs a file in notebooks/params/)
endif
ifeq ($(filter grouped random,$(SPLIT)),)
$(error SPLIT must be `grouped` or `random`, not `$(SPLIT)`)
endif
ifeq ($(filter 0 1,$(EXCLUDE_KAGGLE_TEST)),)
$(error EXCLUDE_KAGGLE_TEST must be 0 or 1, not `$(EXCLUDE_KAGGLE_TEST)`)
endif
ifeq ($(origin RUN),command line)
$(error RUN is the folder of a network, for `make predict` and `make dashboard`; here it is RUNS, the names of runs)
endif
ifeq ($(filter 0 1,$(MODEL)),)
$(error MODEL must be 0 or 1, not `$(MODEL)`)
endif
ifneq ($(EPOCHS),)
ifeq ($(call whole_number,$(EPOCHS)),)
$(error EPOCHS must be a whole number from 1, not `$(EPOCHS)`)
endif
endif
ifeq ($(call whole_number,$(MIN_PICTURES)),)
$(error MIN_PICTURES must be a whole number from 1, not `$(MIN_PICTURES)`)
endif
ifeq ($(call whole_number,$(SIZE)),)
$(error SIZE must be a whole number of pixels, not `$(SIZE)`)
endif
ifeq ($(filter stretch pad bounded,$(FIT)),)
$(error FIT must be `stretch`, `pad` or `bounded`, not `$(FIT)`)
endif
endif
ifneq ($(filter publish,$(MAKECMDGOALS)),)
ifeq ($(DATA),sample)
$(error The records that are published are those of real pictures; say which, for example `make publish DATA=kaggle`)
endif
OTHERS := $(strip $(foreach run,$(RUNS),$(if $(shell grep -sLF '"data_name": "$(NAME)"' $(call published,$(run))/run.json),$(call published,$(run)))))
ifneq ($(OTHERS),)
$(error $(OTHERS): published of other pictures than $(NAME); remove that record first, or give your run a name of its own)
endif
endif

# ---------------------------------------------------------------- environment

# An active environment is used when it has this project's package, else .venv is made.
ACTIVE := $(shell [ -n "$$VIRTUAL_ENV$$CONDA_PREFIX" ] && python -I -c 'import importlib.util as u, sys; sys.exit(not (u.find_spec("lib") and u.find_spec("papermill")))' 2>/dev/null && command -v python)
PYTHON := $(or $(ACTIVE),.venv/bin/python)
ENVIRONMENT := $(if $(ACTIVE),,.venv/.installed)

# uv resolves and unpacks several times as fast as pip; where there is none, pip fetches it into .venv. pip itself
# remains for where that fails, behind an index that only pip is told about, for example. Compiled now, as pip does by
# itself: TensorFlow's import is thrice as long where nobody may write compiled files later.
.venv/.installed: pyproject.toml constraints.txt
	@python=$$(for p in python3.13 python3.12 python3.11 python3; do \
	  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && command -v $$p && break; done); \
	[ -n "$$python" ] || { echo "error: Python 3.11, 3.12 or 3.13 is needed and was not found; install one, or use \`conda env create -f environment.yml\`" >&2; exit 2; }; \
	echo "Making the environment .venv with $$python" >&2; \
	if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python "$$python" .venv && uv pip install --quiet --compile-bytecode --python .venv/bin/python -e '.[dev]' -c constraints.txt; \
	else \
	  "$$python" -m venv .venv && export PIP_DISABLE_PIP_VERSION_CHECK=1 && \
	  { .venv/bin/python -m pip install --quiet uv 2>/dev/null && .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python -e '.[dev]' -c constraints.txt; } || \
	  .venv/bin/python -m pip install --quiet -e '.[dev]' -c constraints.txt; \
	fi
	@touch $@

constraints: ## resolve the dependencies of pyproject.toml anew into constraints.txt (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-annotate --no-header --upgrade -q -o constraints.txt

# ---------------------------------------------------------------- pictures → manifest → run → metrics

RUN_NOTEBOOK := $(PYTHON) -m lib.notebooks
# springfield-… and the lines of the ablation are springfield's recipe with the few values that their files change.
based_on = $(if $(filter ablation/% springfield-%,$(1)),notebooks/params/springfield.yaml)
# Not every recipe learns from so few pictures as the sample has.
on_the_sample = $(if $(filter sample,$(DATA)),$(wildcard notebooks/params/sample/$(1).yaml))
recipe = $(patsubst %,-f %,$(call based_on,$(1)) notebooks/params/$(1).yaml $(call on_the_sample,$(1)))
PREPARATION := notebooks/01_prepare.ipynb lib/data/pictures.py lib/data/duplicates.py lib/data/manifest.py
TRAINING := notebooks/02_train.ipynb lib/data/batches.py lib/data/synthetic.py lib/data/sample.py lib/data/sample_figures.py
TRAINING += lib/training/networks.py lib/training/recipes.py lib/training/export.py
ROBUSTNESS := notebooks/05_robustness.ipynb lib/evaluation/changes.py lib/evaluation/plots.py
EVALUATION := notebooks/03_evaluate.ipynb lib/evaluation/metrics.py lib/evaluation/plots.py

# A variable that decides a product is a file named after its value: another value is a file that is not there.
PREPARED_WITH := $(PREPARED)/.min-pictures-$(MIN_PICTURES)
TRAINED_WITH := .epochs-$(or $(EPOCHS),of-the-recipe)

$(PREPARED_WITH):
	@mkdir -p $(@D) && rm -f $(@D)/.min-pictures-* && touch $@

$(RUNS:%=$(OUT)/%/$(TRAINED_WITH)):
	@mkdir -p $(@D) && rm -f $(@D)/.epochs-* && touch $@

$(RAW)/source.json: | $(ENVIRONMENT)
	@$(PYTHON) -m lib.data.sources $(call quoted,$(DATA)) --name $(BASE)

$(PREPARED)/manifest.csv: $(RAW)/source.json $(PREPARATION) $(PREPARED_WITH) | $(ENVIRONMENT)
	@echo "Preparing $(NAME)" >&2
	@$(RUN_NOTEBOOK) notebooks/01_prepare.ipynb $(PREPARED)/prepare.ipynb --lock $(PREPARED) \
	  -p source $(call quoted,$(DATA)) -p raw_name $(BASE) -p data_name $(NAME) -p split $(SPLIT) \
	  -p min_pictures $(MIN_PICTURES) -p picture_size $(SIZE) -p fit $(FIT) \
	  -p exclude_kaggle_test $(if $(filter 1,$(EXCLUDE_KAGGLE_TEST)),true,false)

$(TRAINED): $(OUT)/%/run.json: $(PREPARED)/manifest.csv notebooks/params/%.yaml $(TRAINING) $(OUT)/%/$(TRAINED_WITH) | $(ENVIRONMENT)
	@echo "Training $*" >&2
	@$(RUN_NOTEBOOK) notebooks/02_train.ipynb $(@D)/train.ipynb $(call recipe,$*) \
	  -p data_name $(NAME) -p run $* -p outputs $(OUTPUTS) $(if $(EPOCHS),-p epochs $(EPOCHS))

$(foreach run,$(RUNS),$(eval $(OUT)/$(run)/run.json: $(call based_on,$(run)) $(call on_the_sample,$(run))))

$(EVALUATED): $(OUT)/%/metrics.json: $(OUT)/%/run.json $(EVALUATION) | $(ENVIRONMENT)
	@echo "Evaluating $*" >&2
	@$(RUN_NOTEBOOK) notebooks/03_evaluate.ipynb $(@D)/evaluate.ipynb \
	  -p data_name $(NAME) -p run $* -p outputs $(OUTPUTS)

$(CHANGED): $(OUT)/%/robustness.csv: $(OUT)/%/run.json $(ROBUSTNESS) | $(ENVIRONMENT)
	@echo "Changing the test pictures for $*" >&2
	@$(RUN_NOTEBOOK) notebooks/05_robustness.ipynb $(@D)/robustness.ipynb \
	  -p data_name $(NAME) -p raw_name $(BASE) -p run $* -p outputs $(OUTPUTS)

$(OUT)/summary.txt: $(EVALUATED)
	@$(PYTHON) -m lib.report $(EVALUATED:%/metrics.json=%) --keep $@

data: $(PREPARED)/manifest.csv ## prepare the pictures of DATA: manifest, splits, images.npy
train: $(TRAINED) ## train every run in RUNS; a killed run goes on where it was
evaluate: $(OUT)/summary.txt ## evaluate every run in RUNS and print the table
robustness: $(CHANGED) ## score every run in RUNS on changed pictures, as people upload them
# No figure with frames in it, and a network only of those that are small enough to be cloned by everyone.
RECORDS := run.json history.csv metrics.json per_character.csv confusion.csv predictions.csv robustness.csv
RECORDS += figures/confusion_matrix.png figures/learning_curves.png figures/per_character.png figures/robustness.png
# The lines of an ablation are compared on validation alone, so they need not be evaluated.
publish: $(filter-out $(OUT)/ablation/%,$(EVALUATED)) $(filter $(OUT)/ablation/%,$(TRAINED)) ## copy the records of RUNS to outputs/published; with MODEL=1 network and model card too
	@for run in $(RUNS); do to=$(call published,$$run); \
	  mkdir -p $$to/figures || exit; \
	  for file in $(RECORDS) $(if $(filter 1,$(MODEL)),model.tflite); do \
	    [ ! -e $(OUT)/$$run/$$file ] || cp $(OUT)/$$run/$$file $$to/$$file || exit; \
	  done; \
	  [ "$(MODEL)" != 1 ] || $(PYTHON) -m lib.evaluation.card $$to || exit; \
	  echo $$to; \
	done

# Whatever lies there is read again each time: it takes seconds.
compare: $(ENVIRONMENT) ## one table and one figure of all finished runs of DATA
	@$(RUN_NOTEBOOK) notebooks/04_compare.ipynb $(OUT)/compare.ipynb -p data_name $(NAME) -p outputs $(OUTPUTS)

# ---------------------------------------------------------------- use

predict: $(ENVIRONMENT) ## name the character in IMAGE=path, folder or URL; RUN=folder asks another network
	@[ -n $(call quoted,$(IMAGE)) ] || { echo "error: say which picture, for example \`make predict IMAGE=homer.jpg\`" >&2; exit 2; }
	@$(PYTHON) -m lib.predict $(call quoted,$(IMAGE)) $(if $(RUN),--run $(call quoted,$(RUN)))

dashboard: $(ENVIRONMENT) ## serve the page on PORT (8866) of HOST (127.0.0.1); RUN=folder shows another network
	@$(PYTHON) -m lib.serving.server --host $(HOST) --port $(PORT)

lab: $(ENVIRONMENT) ## open the notebooks in JupyterLab
	@cd notebooks && $(abspath $(PYTHON)) -m jupyterlab

# ---------------------------------------------------------------- care

test: $(ENVIRONMENT) ## run every test
	$(PYTHON) -m pytest

lint: $(ENVIRONMENT) ## check style, and that notebooks are stored without outputs
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m nbstripout --keep-id --verify notebooks/*.ipynb

bench: $(ENVIRONMENT) ## run the benchmarks; each prints a ratio
	$(PYTHON) -m tests.benchmarks

# Raw pictures are shared by all that is prepared from them, and may have been a long download.
clean: ## remove what was made of DATA: prepared pictures and runs (raw pictures and published records stay)
	rm -rf $(PREPARED) $(OUT)

help: ## print this
	@echo "Recognise the characters of The Simpsons. Start with: make train evaluate"
	@echo
	@grep -E '^[a-z]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'
	@echo
	@echo "Variables:"
	@echo "  DATA=sample        or kaggle, or the path of an archive or a folder of pictures"
	@echo "  RUNS='cnn4 cnn6'   names of files in notebooks/params/, or all: $(KNOWN_RUNS)"
	@echo "  EPOCHS=…           instead of the recipe's (on the sample: 32)"
	@echo "  SPLIT=grouped      or random: near-copies may cross"
	@echo "  MIN_PICTURES=…     characters with fewer pictures are left out (290; on the sample 20)"
	@echo "  EXCLUDE_KAGGLE_TEST=1   leave out the frames that match the archive's own test set"
	@echo "  SIZE=64            side of a prepared picture, pixels"
	@echo "  FIT=stretch        how a picture becomes square; or pad, or bounded: margins off, stretched to 16:9, padded beyond"
	@echo "  OUTPUTS=outputs    folder of the runs"

.PHONY: constraints data train evaluate robustness publish compare predict dashboard lab test lint bench clean help
