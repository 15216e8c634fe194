# Each target does all the set-up it needs: Python 3.11 or newer and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK_FLAGS := --quiet --universal --generate-hashes --no-header
READY := $(VENV)/.ready

.PHONY: serve test check lint bench bench-faults chaos lock clean

serve: $(READY)  ## migrate and serve in the foreground; SIGTERM drains
	@exec $(BIN)/tollgate serve

test: $(READY)  ## the whole suite: SQLite, PostgreSQL, Redis, misbehaving upstreams
	$(BIN)/pytest -n auto --dist worksteal

check: $(READY)  ## style, types, walls between rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/yamllint --strict -d '{extends: relaxed, rules: {line-length: {max: 120}}}' docker-compose.yml

chaos: $(READY)  ## faults under load: kill, pause and restart everything, then the books
	$(BIN)/python -m benchmarks.chaos $(CHAOS)

bench-faults: $(READY)  ## ten upstreams with seeded faults under load: what customers notice, and who is back when
	$(BIN)/python -m benchmarks.faults $(FAULTS)

bench: $(READY)  ## requests/s, added latency, CPU, memory, and the books against the upstream's count
	$(BIN)/python -m benchmarks

$(READY): requirements-dev.lock pyproject.toml
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements-dev.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

lock: $(READY)  ## resolve anew, for every platform and Python from 3.11
	$(BIN)/uv pip compile $(LOCK_FLAGS) pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile $(LOCK_FLAGS) -c requirements.lock --group dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) data build dist
