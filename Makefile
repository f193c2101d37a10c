# What each target does: make help
PYTHON ?= python3
BIN := .venv/bin
CLUSTER ?= embedded
AUTH ?= demo
MAKEFLAGS += --no-print-directory

.PHONY: help demo test lint cluster cluster-down campaign bench docs constraints clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

demo: ## the whole thing on this machine: a hub, two contests, teams (CLUSTER=node: real Kubernetes; AUTH=ldap: a real directory)
	@$(PYTHON) tools/bootstrap.py demo
	@$(BIN)/python tools/demo.py --cluster $(CLUSTER) --auth $(AUTH)

test: ## lint, then every test; installs what it can, says loudly what it could not prove
	@$(PYTHON) tools/bootstrap.py test
	@$(BIN)/python tools/prepare.py
	@$(MAKE) lint
	$(BIN)/python tools/run_tests.py $(PYTEST_ARGS)

lint: ## ruff, mypy, the floors
	@$(PYTHON) tools/bootstrap.py test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

cluster: ## a real one-node Kubernetes on this machine (Linux, root), left running
	@$(PYTHON) tools/bootstrap.py test
	@$(BIN)/python -m tests.cluster build
	@$(BIN)/python -m tests.cluster images
	@$(BIN)/python -m tests.cluster up

cluster-down: ## stop it; nothing stays behind
	@$(BIN)/python -m tests.cluster down

campaign: ## long runs: kill -9 of every part in the middle of its work; laws with new examples
	@$(PYTHON) tools/bootstrap.py test
	@$(BIN)/python tools/prepare.py
	$(BIN)/python -m pytest -m campaign tests/campaign \
		tests/manifests/test_permissions_on_api.py $(PYTEST_ARGS)
	$(BIN)/python -m pytest --hypothesis-profile=default tests/policy tests/reconcile tests/identity

bench: ## benchmarks, each beside the tool one would use instead
	@$(PYTHON) tools/bootstrap.py test
	@$(BIN)/python tools/prepare.py
	$(BIN)/python -m benchmarks

docs: ## generated pages, then the manual as HTML in docs/_build
	@$(PYTHON) tools/bootstrap.py test
	@$(PYTHON) tools/bootstrap.py docs
	$(BIN)/python tools/generate_docs.py
	$(BIN)/sphinx-build -W -q -b html docs docs/_build/html

constraints: ## take the newest versions that setup.py allows into constraints.txt
	@$(PYTHON) tools/bootstrap.py test
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.10 --all-extras --no-header \
	  --no-annotate --no-emit-index-url --no-emit-find-links --quiet -o constraints.txt setup.py

clean: ## remove what make made in this folder (not the demo's data)
	rm -rf .venv build dist docs/_build .mypy_cache .ruff_cache .pytest_cache *.egg-info
