# Two commands for a machine that has Python >= 3.11, pip and make:
#   make score   environment, sample market, model, tonight's predictions
#   make test    environment, tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
K := $(BIN)/kstock-batch
# What the bot imports once it works with its LSTM, in a Python as old as 3.9
BOTS_LSTM := kstock_batch/files.py kstock_batch/market/contract.py kstock_batch/features/windows.py \
	$(addprefix kstock_batch/learners/, lstm_checkpoint.py lstm_network.py lstm_probability.py lstm_recipe.py \
	lstm_sample.py lstm_scaler.py lstm_training.py lstm_weights.py torch_runtime.py)

.PHONY: score test orchestrators lint types format docs bench clean

score: $(VENV)/.installed
	$(K) demo
	test -f models/champion.json || $(K) retrain
	$(K) score
	$(K) predictions show --top 20

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n 2

orchestrators: $(VENV)/.installed-dev build/dagster/.installed build/airflow/.installed
	DAGSTER_PYTHON=build/dagster/bin/python AIRFLOW_PYTHON=build/airflow/bin/python \
	  $(BIN)/python -m pytest -q tests/test_orchestrators.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff check --target-version py39 --select E,F,UP,FA102 kstock_batch/bot kstock_batch/errors.py \
	  kstock_batch/quoting.py kstock_batch/wording.py $(BOTS_LSTM)
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documentation as a site, in build/docs/site
docs: $(VENV)/.installed-docs
	$(BIN)/python docs/site/build.py

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("kstock-batch needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# Each in an environment of its own: they agree neither with each other's versions nor with ours.
build/dagster/.installed:
	$(PYTHON) -m venv build/dagster
	build/dagster/bin/python -m pip install --quiet --disable-pip-version-check 'dagster>=1.13'
	touch $@

build/airflow/.installed:
	$(PYTHON) -m venv build/airflow
	build/airflow/bin/python -m pip install --quiet --disable-pip-version-check 'apache-airflow>=3.3'
	touch $@

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist
