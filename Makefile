# The two commands that matter: `make demo` and `make test`. Both set everything up by themselves.
PYTHON ?= python3
BIN := .venv/bin
API := tests/api
DEPLOY := tests/deploy
JOURNEYS := tests/journey tests/rehearsal
FAULTS := tests/faults
NETWORK := tests/faults/network

.PHONY: demo up test test-api test-deploy test-journeys test-others test-faults-embedded test-faults-postgresql test-network \
	faults rehearsal bench fuzz schemathesis audit docs pictures clean

demo: .venv/installed
	$(BIN)/dermqueue demo

up: .venv/installed
	$(BIN)/dermqueue up

test: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --jobs 4 --keep-going test-api test-deploy test-journeys test-others
	$(MAKE) --jobs 3 --keep-going test-faults-embedded test-faults-postgresql test-network

# Four parts in parallel, for the two cores of a small machine: whole stacks mostly wait. The faults run afterwards and with
# nothing else, since what they measure depends on timeouts; on both kinds of database at once, since they leave the cores idle
# for most of the time. More threads than cores would wait for each other.
test-api test-deploy test-journeys test-others test-faults-embedded test-faults-postgresql test-network: export OMP_NUM_THREADS := 1

test-api: .venv/installed-test
	$(BIN)/pytest $(API)

test-deploy: .venv/installed-test
	$(BIN)/pytest $(DEPLOY)

test-journeys: .venv/installed-test
	$(BIN)/pytest $(JOURNEYS)

test-others: .venv/installed-test
	$(BIN)/pytest $(patsubst %,--ignore %,$(API) $(DEPLOY) $(JOURNEYS) $(FAULTS))

test-faults-embedded: .venv/installed-test
	$(BIN)/pytest $(FAULTS) --ignore $(NETWORK) -k 'not postgresql'

test-faults-postgresql: .venv/installed-test
	$(BIN)/pytest $(FAULTS) --ignore $(NETWORK) -k postgresql

test-network: .venv/installed-test
	$(BIN)/pytest $(NETWORK)

docs: .venv/installed-test
	$(BIN)/mkdocs build --strict -f deploy/mkdocs.yml
	@echo "The site is in build/site: $(BIN)/python -m http.server --directory build/site"

# The documentation's screenshots of the pages. Look at them before you commit them.
pictures: .venv/installed-test
	PICTURES=deploy/docs/pictures $(BIN)/pytest tests/journey/test_pictures.py

# The long form of tests/faults: hours on a small machine. Writes what it measured to deploy/docs/faults.md.
faults: .venv/installed-test
	$(BIN)/pytest $(FAULTS) --full --timeout 3600

# A day of clinics within an hour, with workers started and stopped by the cluster's rule: deploy/docs/scaling.md. For a run of
# a few minutes: `make rehearsal REHEARSAL='--day 240 --out /tmp'`.
rehearsal: .venv/installed-test
	$(BIN)/python -m tests.rehearsal $(REHEARSAL)

# How fast it is, compared with what the machine could do and what people use today: deploy/docs/benchmarks.md. Leave the machine
# idle meanwhile. For a few minutes of one part: `make bench BENCH='--quick --only latency --out /tmp/bench'`.
bench: .venv/installed-test .venv-peers/installed
	$(BIN)/python -m tests.benchmarks $(BENCH)

# Corrupted photographs through the path from upload to pixels: 10,000 at random, then a minute of libFuzzer.
fuzz: .venv/installed-test
	$(BIN)/python -m tests.fuzz
	$(BIN)/python -m tests.fuzz.guided 60

# Thousands of calls that the OpenAPI document allows or forbids, with the key of every role.
schemathesis: .venv/installed-test
	$(BIN)/pytest tests/api/test_generated_calls.py --full --timeout 3600

# The scan for secrets excludes digests of files, and passwords made of plain words, as in examples and tests.
# Without --strict, pip-audit would pass when PyPI's vulnerability service knows none of the packages or is unreachable.
audit: .venv/installed-audit
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive .
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --no-verify \
		--exclude-lines 'sha256"|:PASSWORD@' --exclude-secrets '^[a-z]+([-_][a-z]+)*$$'
	@echo "Looking up the installed packages' known vulnerabilities"
	@report=$$($(BIN)/pip freeze --all --exclude-editable | \
		$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement /dev/stdin) || { \
		echo "$${report:-Known vulnerabilities were NOT looked up: PyPI's service did not answer for every package.}"; \
		exit 1; }

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	@echo "Installing DermQueue into .venv (PyTorch alone is some gigabytes; this takes a few minutes, once)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[worker,embedded]'
	touch $@

# After the rule above, not instead of it: with torch installed, pip's resolver does not try older versions of it for captum.
.venv/installed-test: .venv/installed
	@echo "Installing what the tests need into .venv"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

.venv/installed-audit: .venv/installed
	@echo "Installing what the audit needs into .venv"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[audit]'
	touch $@

# The peers' own environment: their requirements conflict with ours.
.venv-peers/installed: tests/benchmarks/peers/requirements.txt
	@echo "Installing the benchmark's peers into .venv-peers (PyTorch again; this takes a few minutes, once)"
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

# Not .dermqueue: `make up` keeps its cases there.
clean:
	rm -rf .venv .venv-peers build *.egg-info demo-results fuzz-findings
