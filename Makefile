# doubletap: `make help` lists what there is.

GO      ?= go
# How tests get their servers: auto, docker or native (see testenv). What
# cannot start fails: `make test` never passes by skipping.
TESTENV ?= auto
# RACE=1 runs the tests under the race detector.
RACE    ?=
# LOG=kafka runs the demo over Kafka; SABOTAGE=gate|delete must turn it red.
LOG      ?= embedded
SABOTAGE ?=
# RACES_STATE keeps the state of the long run of races; RACES_FLAGS go to races.
RACES_STATE ?= bin/races.json
RACES_FLAGS ?=
# FUZZTIME counts inputs: a time can fail a target by itself (see tools/fuzz.sh).
FUZZTIME ?= 50000x
# The longest packages go first: they run beside all the others.
PKGS     ?= ./integration ./races ./binlog ./...

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## run the whole pipeline on real servers and watch it (LOG=kafka, SABOTAGE=gate|delete)
	@$(GO) run ./demo -log=$(LOG) -sabotage=$(SABOTAGE)

.PHONY: demo-races
demo-races: ## the hazards one by one: stale keys of five ways to invalidate, side by side (LOG=kafka)
	@$(GO) run ./races -demo -log=$(LOG)

.PHONY: races
races: ## races of fills and commits over Kafka, counted and checked (LONG=1: 10,000,000, resumed from RACES_STATE)
	@mkdir -p bin
	@TESTENV=$(TESTENV) $(GO) run ./races $(if $(LONG),-latency -races=10000000 -batch=250000 -state=$(RACES_STATE)) $(RACES_FLAGS)

.PHONY: test
test: ## run all tests on real servers (TESTENV=docker|native, RACE=1, PKGS=./bus)
	@TESTENV=$(TESTENV) $(GO) run ./testenv/prepare
	TESTENV=$(TESTENV),require $(GO) test $(if $(RACE),-race) -timeout 25m -p 2 $(PKGS)

.PHONY: unit
unit: ## run the tests that need no servers; the others say that they are skipped
	$(GO) test $(PKGS)

.PHONY: build
build: ## build the commands into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o bin/ ./cmd/...

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not formatted: $$out"; exit 1; }
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

.PHONY: fuzz
fuzz: ## run every fuzz target with FUZZTIME inputs each
	GO='$(GO)' FUZZTIME=$(FUZZTIME) tools/fuzz.sh

.PHONY: bench
bench: ## print rows/s, CPU, memory and latency against a plain reader
	TESTENV=$(TESTENV),require $(GO) run ./bench

.PHONY: bench-gate
bench-gate: ## print what the visibility gates cost: first deletes with and without them, questions asked of each reader
	TESTENV=$(TESTENV),require $(GO) run ./bench -gate

.PHONY: bench-replay
bench-replay: ## print how fast a table of 10,000,000 rows is replayed, and what live deletes feel of it
	TESTENV=$(TESTENV),require $(GO) run ./bench -replay -rows 10000000 -latency-seconds 30

.PHONY: tidy
tidy: ## check that go.mod and go.sum are tidy
	$(GO) mod tidy -diff

.PHONY: alerts
alerts: ## check the alert rules with promtool, which it fetches with apt where there is none
	deploy/promtool.sh check rules deploy/alerts.yaml
	deploy/promtool.sh test rules deploy/alerts.test.yaml

.PHONY: up down
up: ## start MySQL and a replica, Kafka, Redis, a tailer and two invalidators with Docker Compose (docs/compose.md)
	docker compose up --build --wait
down: ## stop them and remove their data
	docker compose --profile tools down --volumes
