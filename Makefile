# Everything a newcomer needs: `make demo` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench-installed
PATRONI := .venv-patroni
PATRONI_STAMP := $(PATRONI)/.installed
NODE   := tests/drivers/node
NODE_STAMP := $(NODE)/node_modules/.installed
APPS   := tests/apps/node
APPS_STAMP := $(APPS)/node_modules/.installed
# Two processes, each with a PostgreSQL of its own; a file's tests stay together. SPREAD= for one.
SPREAD ?= -n 2 --dist loadfile --no-loadscope-reorder
COMPILED_TESTS := tests/unit/protocol tests/unit/router tests/unit/session tests/unit/pool tests/unit/test_compiled.py \
	tests/property tests/integration/test_protocol.py tests/integration/test_session_state.py \
	tests/integration/test_sockets.py

.PHONY: test-explore test-patroni test-fault soak demo compiled test check format pytest test-compiled test-drivers test-regress test-jdbc test-restart test-differential docs bench bench-short capacity clean bench-micro

demo: $(STAMP)            ## a running meta database, 14 industries and the gateway; Ctrl-C stops it all
	@$(BIN)/gateway demo $(ARGS)

compiled: $(STAMP)        ## compile the hot modules beside their sources; needs a C compiler
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'Cython>=3.1' 'setuptools>=77'
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@$(BIN)/gateway --version

test: check pytest test-compiled ## lint, types, layers, and every test on real PostgreSQL

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config pyproject.toml

pytest: $(STAMP) $(NODE_STAMP) $(APPS_STAMP)
	GATEWAY_PURE=1 $(BIN)/python -m pytest $(SPREAD) $(ARGS)

test-compiled: $(STAMP)   ## the tests of protocol, session and pool, and the properties, compiled
	@if command -v $${CC:-cc} >/dev/null; then \
		$(MAKE) --no-print-directory compiled && \
		GATEWAY_COMPILED_TESTS=1 $(BIN)/python -m pytest -q $(SPREAD) $(COMPILED_TESTS); \
	else \
		echo "no C compiler ($${CC:-cc}): the compiled modules are NOT tested; all others were"; \
	fi

test-explore: $(STAMP)    ## the property tests with other examples each time, ROUNDS times
	@for round in $$(seq $${ROUNDS:-10}); do \
		GATEWAY_PURE=1 $(BIN)/python -m pytest -q $(SPREAD) --hypothesis-profile=explore \
			tests/property tests/unit/directory/test_cache_model.py $(ARGS) || exit 1; \
	done

test-drivers: $(STAMP)    ## other people's test suites, directly and through the gateway; a table
	@$(BIN)/python -m tests.suites $(ARGS)

test-regress: $(STAMP)    ## PostgreSQL's own regression tests, directly and through the gateway
	@$(BIN)/python -m tests.suites.regress $(ARGS)

test-jdbc: $(STAMP)       ## pgjdbc, the Java driver, directly and through the gateway
	@$(BIN)/python -m tests.jdbc

test-restart: $(STAMP)    ## ten restarts in a row under pgbench, however long they take
	@RESTART_LOAD_S=500 $(BIN)/python -m pytest -m '' -s -q --timeout 600 tests/fault/test_restart.py -k ten

test-patroni: $(PATRONI_STAMP) ## a switchover and two failovers of a real Patroni cluster; needs etcd
	@PATRONI_VENV=$(PATRONI) $(BIN)/python -m tests.patroni

test-differential: $(STAMP) ## random dialogues of several clients, directly and through the gateway
	@DIFFERENTIAL_EXAMPLES=$${DIFFERENTIAL_EXAMPLES:-2000} \
	  $(BIN)/python -m pytest tests/differential -q $(ARGS)

test-fault: $(STAMP)     ## faults of clients, servers, networks and processes, with their figures
	@$(BIN)/python -m pytest tests/fault -m '' -s $(ARGS)

.PHONY: crowd
crowd: $(STAMP)          ## 10,000 idle clients of 50,000 owners on two workers: what that takes of memory
	@$(BIN)/python -u -m tests.fault.crowd $(ARGS)

soak: $(STAMP)           ## half an hour of mixed load and random faults; ARGS='--minutes 5 --kills'
	@$(BIN)/python -u -m tests.fault.soak $(ARGS)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)            ## regenerate config/schema.json and docs/configuration.md
	$(BIN)/python -m gateway.settings.document

bench: $(BENCH_STAMP) compiled ## PostgreSQL, PgBouncer and the gateway side by side; Ctrl-C stops and reports
	@$(BIN)/python -m benchmarks $(ARGS)

bench-short: $(BENCH_STAMP) compiled ## the same in less than 5 minutes
	@$(BIN)/python -m benchmarks --short $(ARGS)

bench-micro: $(STAMP) compiled ## parts of the hot path against the stored baseline; ARGS=--save
	@$(BIN)/python -m benchmarks.micro $(ARGS)

capacity: $(BENCH_STAMP) compiled ## how many owners a deployment carries; ARGS='--config my.yaml --short'
	@$(BIN)/python -m benchmarks.capacity $(ARGS)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (first time only) ..."
	@GATEWAY_PURE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

$(BENCH_STAMP): $(STAMP)
	@GATEWAY_PURE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@

$(PATRONI_STAMP): $(STAMP)
	@test -x $(PATRONI)/bin/python || $(PYTHON) -m venv $(PATRONI)
	@$(PATRONI)/bin/python -m pip install --quiet --disable-pip-version-check \
		'patroni[etcd3]>=4.0' 'psycopg2-binary>=2.9.10'
	@touch $@

$(NODE_STAMP): $(NODE)/package.json $(STAMP)
	@cd $(NODE) && PATH="$(abspath $(BIN)):$$PATH" npm install --no-audit --no-fund --loglevel=error
	@touch $@

$(APPS_STAMP): $(APPS)/package.json $(APPS)/package-lock.json $(wildcard $(APPS)/prisma/*.prisma) | $(STAMP)
	@cd $(APPS) && export PATH="$(abspath $(BIN)):$$PATH" && \
		npm ci --no-audit --no-fund --loglevel=error && npm run --silent generate >/dev/null
	@touch $@

clean:
	rm -rf $(VENV) $(PATRONI) $(NODE)/node_modules $(APPS)/node_modules $(APPS)/generated .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info gateway/*/*.so
