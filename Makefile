# Every target sets up all it needs in .venv; nothing is installed outside this folder.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint types generate picture simulate chaos boot bench lock clean

python := .venv/bin/python

help: ## List what there is to do
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do \
		printf '  make %-10s %s\n' "$$name" "$$what"; done

setup:
	@scripts/bootstrap

demo: setup ## Watch bots die and come back (CHECK=1: no screen, exits non-zero if an act fails; REAL=1: real ones)
	@$(python) -m sandbox demo $(if $(CHECK),--check) $(if $(REAL),--real)

test: setup ## Run the tests (ARGS="-k score" picks some; WORKERS=1: one after another)
	@PYTHONDONTWRITEBYTECODE= $(python) -m pytest --numprocesses $(or $(WORKERS),4) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup ## Check style and format
	@$(python) -m ruff check
	@$(python) -m ruff format --check

types: setup ## Check types
	@$(python) -m mypy

generate: setup ## Write the generated files: Grafana's dashboards, tables of docs/, instance types (CHECK=1: only compare)
	@$(python) -m dashboards $(if $(CHECK),--check)
	@$(python) scripts/instance_types.py $(if $(CHECK),--check)
	@$(python) scripts/docs.py $(if $(CHECK),--check)

picture: setup ## Play the demo and draw its last screen for the README
	@$(python) -m sandbox demo --check --svg docs/demo.svg

simulate: setup ## Run the recovery engine through SEEDS=10000 simulated lives, and check what must never happen
	@$(python) -m sandbox.simulator --seeds $(or $(SEEDS),10000) $(ARGS)

chaos: setup ## Kill, freeze and cut off real remediators while bots fall ill (ARGS="--seconds 600" for longer)
	@$(python) -m tests.chaos $(ARGS)

boot: setup ## Boot an instance for real, as root: systemd, cloud-init, OpenClaw (ARGS="-k first" picks some tests)
	@$(python) -m tests.boot $(ARGS)

bench: setup ## Run a benchmark (BENCH=name; without it, list them; ARGS=--quick: for seconds, to see that it works)
	@$(if $(BENCH),$(python) tests/benchmarks/$(BENCH).py $(ARGS),grep -l '^if __name__ ==' tests/benchmarks/*.py | xargs basename -a -s .py)

lock: setup ## Resolve the locks anew from pyproject.toml (UPGRADE=1: to the newest versions)
	@scripts/lock $(if $(UPGRADE),--upgrade)

clean: ## Remove all that make made here, .venv and .cache too
	@rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
