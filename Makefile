# Thin targets over scripts/ and the `steelyard` command. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup demo up down test test-slow test-faults check check-k8s bench format protos requirements

PYTEST_ARGUMENTS ?= -n auto --maxprocesses 4 --dist loadfile
SOURCES := libs services tests scripts $(wildcard benchmarks)

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-14s %s\n", $$1, $$2 }'

setup: ## Create .venv with everything that is needed (fast when it is there)
	@scripts/setup .venv requirements/dev.txt

demo: setup ## Usage to paid invoice, in one go, on this machine
	@.venv/bin/steelyard demo

up: setup ## Start PostgreSQL, NATS and the four services in the background, and print where they answer
	@.venv/bin/steelyard up

down: setup ## Stop what `make up` started
	@.venv/bin/steelyard down

test: setup ## Tests that need seconds, with real PostgreSQL and NATS
	.venv/bin/pytest $(PYTEST_ARGUMENTS) -m "not slow"

test-slow: setup ## Tests that need minutes
	.venv/bin/pytest -m slow

test-faults: setup ## More than a hundred seeded runs with faults, half an hour; fails if interesting cases never came up
	.venv/bin/pytest tests/faults
	.venv/bin/python -m tests.faults

check: setup .venv-protos ## Format, lint, types, import contracts, protos, generated code
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy $(SOURCES)
	.venv/bin/lint-imports
	.venv/bin/buf lint
	scripts/check_breaking
	.venv-protos/bin/python scripts/generate_protos.py --check
	@if command -v kubectl >/dev/null 2>&1; then scripts/check_k8s; \
	else echo "make check: kubectl is not on PATH, so the Kubernetes overlays were NOT rendered and checked"; fi

check-k8s: setup ## Render and validate the Kubernetes overlays
	scripts/check_k8s
	.venv/bin/pytest tests/unit/deploy

bench: setup ## The measurements behind the README's table
	.venv/bin/python -m benchmarks

format: setup ## Format, and fix what can be fixed
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

protos: setup .venv-protos ## Generate the code in libs/sdk from protos/
	.venv/bin/buf format --write
	.venv-protos/bin/python scripts/generate_protos.py

requirements: setup ## Compile requirements/*.in to pins with hashes (needs uv on PATH)
	cd requirements && for name in runtime dev protos; do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
			--no-emit-find-links --no-header --no-annotate $$name.in --output-file $$name.txt || exit 1; \
	done

.PHONY: .venv-protos
.venv-protos:
	@scripts/setup .venv-protos requirements/protos.txt
