# Two commands are enough for most: `make demo` and `make test`.  Both set up .venv when it is missing or old.

BIN := .venv/bin
# Stamps live in .venv, so that they go when it goes.
INSTALLED := pyproject.toml setup.py
# Tests wait more than they work: four processes for each core.
PYTEST = $(BIN)/pytest --numprocesses $$(expr $$(getconf _NPROCESSORS_ONLN) \* 4) --dist worksteal
SYSTEM_POSTGRES = $(shell command -v initdb || ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null)
DEMO_EXTRA = $(if $(SYSTEM_POSTGRES),,demo)

.PHONY: help demo test test-all test-versions check compat foreign bench bench-quick bench-attacks torture binary dist deb clean

help:
	@echo 'make demo         see it at work: a simulated exchange in a Postgres of its own (Ctrl-C ends it)'
	@echo 'make test         everything that takes seconds; installs what the tests need'
	@echo 'make test-all     that, and what takes longer, or needs other client libraries or PostgreSQLs'
	@echo 'make test-versions  the oldest and the newest packages, on every Python from 3.11 that is found'
	@echo 'make check        ruff, mypy, and which package may import which'
	@echo 'make compat       scenarios played to Mosquitto and to Rowcast, and their differences; ARGS="-V 5": by clients of 5.0'
	@echo 'make foreign      suites that Mosquitto and Paho wrote for brokers, downloaded and played to Rowcast'
	@echo 'make bench        Rowcast against other brokers, an hour; writes benchmarks/RESULTS.md'
	@echo 'make bench-quick  the core of it, against Mosquitto, in two minutes'
	@echo 'make bench-attacks  peers that cost as much as they can, and what the others notice, in some minutes'
	@echo 'make torture      feeds, while Postgres and the network break'
	@echo 'make binary       dist/rowcast, one file that needs no Python'
	@echo 'make dist         wheel, source distribution, dist/rowcast, checked in clean environments; checksums, SBOM'
	@echo 'make deb          a Debian package of dist/rowcast'
	@echo 'More words for a command go into ARGS:  make demo ARGS="--rate 1000"'

demo: .venv/.demo
	@$(BIN)/rowcast demo $(ARGS)

test: .venv/.collected
	@$(PYTEST) $(ARGS)

test-all: .venv/.test
	@scripts/setup-clients
	@$(BIN)/pytest -m 'slow or not slow' $(ARGS)
	@ROWCAST_PORTABLE=1 $(BIN)/pytest -m 'slow or not slow' tests/broker/links tests/integration
	@scripts/test-compiled
	@scripts/test-postgres-versions
	@scripts/test-versions

test-versions: .venv/.test
	@scripts/test-versions $(ARGS)

check: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini
	$(BIN)/pytest tests/test_house.py

bench: .venv/.test
	@scripts/install-missing mosquitto:mosquitto npm:npm
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: .venv/.test
	$(BIN)/python -m benchmarks --quick $(ARGS)

bench-attacks: .venv/.test
	$(BIN)/python -m benchmarks.attacks $(ARGS)

compat: .venv/.test
	@$(BIN)/python mosquitto-compat/play.py $(ARGS)

foreign: .venv/.test
	@PYTHONPATH=.:tests $(BIN)/python tests/foreign/run.py $(ARGS)

torture: .venv/.test
	@PYTHONPATH=.:tests $(BIN)/python tests/torture/run.py $(ARGS)
	@PYTHONPATH=.:tests $(BIN)/python tests/torture/sinks.py
	@PYTHONPATH=.:tests $(BIN)/python tests/torture/sinks.py --acknowledge received
	@PYTHONPATH=.:tests $(BIN)/python tests/torture/power.py
	@PYTHONPATH=.:tests $(BIN)/python tests/torture/unpromised.py
	@PYTHONPATH=.:tests $(BIN)/python tests/torture/blackout.py
	@PYTHONPATH=.:tests $(BIN)/python tests/torture/nodes.py
	@PYTHONPATH=.:tests $(BIN)/python tests/torture/rolling.py

binary: .venv/.demo
	@scripts/build-binary

dist: .venv/.demo
	@scripts/build-dist $(ARGS)

deb: .venv/.demo
	@[ -x dist/rowcast ] || scripts/build-binary
	@scripts/build-deb

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist rowcast.egg-info

.venv/.demo: $(INSTALLED)
	@scripts/setup-venv $(DEMO_EXTRA)
	@touch $@

.venv/.test: $(INSTALLED)
	@scripts/install-missing initdb:postgresql mosquitto:mosquitto mosquitto_sub:mosquitto-clients pgbouncer:pgbouncer
	@scripts/setup-venv test
	@touch $@

# Compiles modules and tests once; else each of the workers does it, all at the same time.  What is wrong with one, the
# run itself says.
.venv/.collected: .venv/.test
	@$(BIN)/pytest --collect-only -qq >/dev/null || true
	@touch $@
