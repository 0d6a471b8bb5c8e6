# Everything a newcomer needs: `make demo` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
NODE   := tests/drivers/node
NODE_STAMP := $(NODE)/node_modules/.installed

.PHONY: demo test check format pytest docs clean

demo: $(STAMP)            ## a running meta database, 14 industries and the gateway; Ctrl-C stops it all
	@$(BIN)/gateway demo $(ARGS)

test: check pytest        ## lint, types, layers, and every test on real PostgreSQL

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config pyproject.toml

pytest: $(STAMP) $(NODE_STAMP)
	$(BIN)/python -m pytest $(ARGS)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)            ## regenerate config/schema.json and docs/configuration.md
	$(BIN)/python -m gateway.settings.document

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (first time only) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

$(NODE_STAMP): $(NODE)/package.json $(STAMP)
	@cd $(NODE) && PATH="$(abspath $(BIN)):$$PATH" npm install --no-audit --no-fund --loglevel=error
	@touch $@

clean:
	rm -rf $(VENV) $(NODE)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
