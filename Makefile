# Every target sets up what it needs: a machine with make and Python 3.11, 3.12 or 3.13 is enough.
.DEFAULT_GOAL := help
.PHONY: help setup check test test-long test-text faults soak bench bench-peers bench-model bench-operations proof demo lock clean fetch
SHELL := /bin/bash

BIN := .venv/bin
STAMP := .venv/kairos-setup.stamp
SOURCES := schemas streams model_server deploy tests
DOCKERFILES := deploy/stream.Dockerfile deploy/model.Dockerfile
TEST_PROCESSES ?= 2
PROOF ?= --no-encoder
SYNC := $(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/all.txt
export UV_HTTP_TIMEOUT ?= 300
# Trust what the machine trusts, a company's proxy too; where it has no certificates at all, those that uv brings.
export UV_SYSTEM_CERTS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where it is set, as in many images, every process compiles every module anew: half the CPU of a worker's start.
unexport PYTHONDONTWRITEBYTECODE

help: ## show the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## .venv with the locked packages, and Kairos itself, editable

$(STAMP): pyproject.toml requirements/all.txt requirements/uv.txt .ci/find-python
	@test -x $(BIN)/python || "$$(bash .ci/find-python)" -m venv .venv || { \
	  rm -rf .venv; echo "The venv module is missing: on Debian or Ubuntu, apt-get install python3-venv." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	$(SYNC) || UV_SYSTEM_CERTS=0 $(SYNC)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

fetch: $(STAMP) ## download Kafka, once a machine
	$(BIN)/kairos up --fetch

check: $(STAMP) ## linters, types, import rules, generated documents, deployment files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m schemas.documents --check
	$(BIN)/python -m tests.faults.documents --check
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/hadolint $(DOCKERFILES)

test: $(STAMP) fetch ## every test but the few long ones, against real Kafkas and Valkeys; TEST_PROCESSES=n
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile

test-long: $(STAMP) fetch ## the tests that `make test` leaves out: minutes of kills between the steps of a promotion
	$(BIN)/pytest -m long

test-text: $(STAMP) fetch ## the back ends for titles, which CI skips: 175 MB of wheels, in an environment of their own
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/text-venv
	$(BIN)/uv pip install --quiet --python build/text-venv/bin/python --require-hashes -r requirements/all.txt -r requirements/text.txt
	$(BIN)/uv pip install --quiet --python build/text-venv/bin/python --no-deps --no-build-isolation --editable .
	KAIROS_TEST_TEXT=1 build/text-venv/bin/python -m pytest tests/unit/test_title_back_ends.py tests/e2e/test_cold_items.py

faults: $(STAMP) fetch ## random faults over real servers, every row judged; SEED=n RUNS=k JOBS=j
	$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS)) $(if $(JOBS),--jobs $(JOBS))

soak: $(STAMP) fetch ## half load for SOAK_MINUTES (30): memory and queues must stay flat, every row right
	$(BIN)/python -m tests.faults.soak $(if $(SOAK_MINUTES),--minutes $(SOAK_MINUTES))

bench: $(STAMP) fetch ## the figures of the README, with their budgets
	$(BIN)/python -m tests.bench

bench-model: $(STAMP) fetch ## the ranker's figures and the way from an event to its candidate
	$(BIN)/python -m tests.bench candidates batching ranker --out build/bench-model.json

proof: $(STAMP) ## time and scene, proven on a shop with planted preferences: build/proof.json; PROOF="--quick --no-encoder" for a look
	@mkdir -p build
	$(BIN)/kairos evaluate --planted $(PROOF) --out build/proof; code=$$?; cp build/proof/proof.json build/; exit $$code

bench-operations: $(STAMP) fetch ## the operator's verbs; BENCH_EVENTS, _USERS, _LETTERS, _ROUNDS=n for other sizes
	$(BIN)/python -m tests.bench operations letters parity promote --out build/bench-operations.json

bench-peers: $(STAMP) fetch ## Kairos beside Bytewax and Quix, in an environment of their own
	$(BIN)/python -m tests.bench.peers

demo: $(STAMP) fetch ## the whole system on a generated shop
	$(BIN)/kairos demo

lock: $(STAMP) ## write requirements/ from pyproject.toml, keeping the versions that still fit
	bash .ci/lock

clean: ## remove what was built and cached here, the environment too
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
