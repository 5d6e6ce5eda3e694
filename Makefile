# backstop's commands. Each brings what it needs (tools/setup.sh) and says what is missing if it cannot.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.SUFFIXES:

CARGO := cargo
# Where cargo builds; also where the demo's and the benchmarks' reports go unless the command says otherwise.
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help
help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install whatever the other commands need and is missing
	@tools/setup.sh

.PHONY: demo
demo: ## Crash a venue and repair it; STAY=1 leaves it running, KILL=1 kills the daemon in the middle
	@tools/setup.sh rust anvil postgres
	$(CARGO) build --locked
	@"$(TARGET)/debug/backstop" demo $(if $(filter 1,$(STAY)),--stay) $(if $(filter 1,$(KILL)),--kill)

.PHONY: scenarios
scenarios: ## Play the named crises on real chains and hold each account of who paid against the chain; ONLY=name
	@tools/setup.sh rust anvil postgres
	$(CARGO) build --locked
	@"$(TARGET)/debug/backstop" scenarios $(if $(ONLY),--only $(ONLY))

.PHONY: faults
faults: ## RUNS=200 crises in which processes, database, node and chain fail, from seed FIRST=1
	@tools/setup.sh rust anvil postgres
	$(CARGO) build --locked
	@"$(TARGET)/debug/backstop" faults --runs $(or $(RUNS),200) --first $(or $(FIRST),1)

.PHONY: sim
sim: ## SEEDS=10000 simulated crises from seed FROM=1: the whole pipeline, every interleaving and fault decided by the seed
	@tools/setup.sh rust
	BACKSTOP_SIM_SEEDS=$(or $(SEEDS),10000) BACKSTOP_SIM_FROM=$(or $(FROM),1) $(CARGO) test --locked --lib -- --nocapture \
	    pipeline::tests::whatever_fails

.PHONY: sim-mutants
sim-mutants: ## Bugs planted in a copy of the sources: the simulation must catch each
	@tools/setup.sh rust
	$(CARGO) test --locked --test sim_mutants -- --nocapture --include-ignored

.PHONY: test
test: lint test-rust test-contracts ## Every test and check

.PHONY: test-rust
test-rust: ## Unit, property, database and end-to-end tests
	@tools/setup.sh rust anvil postgres protocols
	$(CARGO) test --locked

.PHONY: test-unit
test-unit: ## Tests of the library alone, without a whole daemon
	@tools/setup.sh rust anvil postgres protocols
	$(CARGO) test --locked --lib

.PHONY: plans
plans: ## PLANS=1000000 random recovery plans, each executed on a second venue and held against its ledger
	@tools/setup.sh rust
	BACKSTOP_PLANS=$(or $(PLANS),1000000) $(CARGO) test --locked --lib -- --nocapture \
	    recovery::tests::random_plans

.PHONY: test-e2e
test-e2e: ## Whole daemons as processes, on real chains
	@tools/setup.sh rust anvil postgres protocols
	$(CARGO) test --locked --test 'e2e*'

E2E_PROTOCOLS := aave_v3 venus morpho_blue perp_v2

.PHONY: e2e
e2e: ## The daemon on a real protocol's contracts: PROTOCOL=aave_v3, venus, morpho_blue or perp_v2
	@[[ " $(E2E_PROTOCOLS) " == *" $(PROTOCOL) "* ]] || { echo 'usage: make e2e PROTOCOL=$(subst $() ,|,$(E2E_PROTOCOLS))' >&2; exit 2; }
	@tools/setup.sh rust anvil postgres protocols $(PROTOCOL)
	@rm -f "$(TARGET)/e2e/$(PROTOCOL).json"
	$(CARGO) test --locked --test e2e_protocols $(PROTOCOL) -- --nocapture --include-ignored
	@[[ -s "$(TARGET)/e2e/$(PROTOCOL).json" ]] || { echo 'make e2e: no report was written' >&2; exit 1; }
	@echo "report: $(TARGET)/e2e/$(PROTOCOL).json"

.PHONY: recalibration
recalibration: ## The same crash with and without the margin controller: bad debt on the reference venue's contracts
	@tools/setup.sh rust anvil
	$(CARGO) test --locked --test shared_recovery recalibration -- --nocapture

.PHONY: shared-backstop
shared-backstop: ## Two deployments and one pool on a private chain: who paid for what
	@tools/setup.sh rust anvil
	$(CARGO) test --locked --test shared_recovery pool -- --nocapture

.PHONY: screen
screen: ## No unit missed over PAIRS=10000000 random moves of factors under units, with changes and reorganisations between
	@tools/setup.sh rust
	BACKSTOP_PAIRS=$(or $(PAIRS),10000000) $(CARGO) test --locked --lib -- --nocapture scanner::tests::following::no_unit

CASES := 400000

.PHONY: fuzz
fuzz: ## Logs, answers of nodes, configurations, requests and alerts that nobody should send: CASES=400000 of each, over 10^7 inputs
	@tools/setup.sh rust
	PROPTEST_CASES=$(CASES) $(CARGO) test --locked --lib -- --nocapture fuzz_

.PHONY: test-contracts
test-contracts: ## Solidity tests, and that the committed artifacts come from the sources
	@tools/setup.sh anvil forge
	node contracts/build.mjs --check
	@cd contracts && forge=$$(ls ../tools/node_modules/@foundry-rs/forge-*/bin/forge 2>/dev/null | head -n 1) && \
	"$${forge:-forge}" test --offline

.PHONY: contracts
contracts: ## Rebuild contracts/artifacts from the sources
	@tools/setup.sh anvil
	node contracts/build.mjs

.PHONY: bench
bench: ## The scanner at UNITS=1000000: every sweep against a limit measured in the same run
	@tools/setup.sh rust postgres
	$(CARGO) bench --locked --bench scanner -- --units $(or $(UNITS),1000000)

.PHONY: bench-executor
bench-executor: ## From the chain to the wire: reaction, a crowd of 10,000, ingestion; ONLY=ingest, postgres, reaction or crowd
	@tools/setup.sh rust anvil postgres
	$(CARGO) bench --locked --bench executor -- $(if $(ONLY),--only $(ONLY))

.PHONY: bench-recovery
bench-recovery: ## Deleveraging policies side by side on a generated crash; DATA=dir: on a recorded one
	@tools/setup.sh rust
	$(CARGO) bench --locked --bench recovery -- $(if $(DATA),--data "$(DATA)")

.PHONY: fmt
fmt: ## Format the sources
	@tools/setup.sh rust
	$(CARGO) fmt

.PHONY: lint
lint: ## Formatting and clippy, warnings refused
	@tools/setup.sh rust
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
