# The two commands: `make run` and `make test`. Both do their own set-up.

# Upstream's kube-apiserver compiles beside everything else. Nothing below knows
# of it: cargo would look for make's jobs where there are none.
MAKEFLAGS += --jobs=3
unexport MAKEFLAGS

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mizzen
export CARGO_TARGET_DIR ?= $(CACHE)/target
TOOLS := $(CACHE)/tools
REFERENCE := $(CACHE)/reference
# Where the tests find etcd.
export MIZZEN_REFERENCE_DIR := $(REFERENCE)
# A test that fails says why in its last lines, not under a backtrace.
export RUST_LIB_BACKTRACE := 0
export PATH := $(TOOLS)/bin:$(PATH)
BIN := $(CARGO_TARGET_DIR)/release
# Where tests note what this machine cannot run.
export MIZZEN_SKIPPED := $(BIN)/skipped.txt

.PHONY: run demo stop test test-long build packages browser tools reference h2spec kubectl etcd-3.4 lint

## Builds and starts three replicas on this machine, the resource API beside
## each, and says how to use them.
run: build
	@MIZZEN=$(BIN)/mizzen MIZZEN_CERTS=$(BIN)/mizzen-certs MIZZEN_APISERVER=$(BIN)/mizzen-apiserver store/run.sh start

## Upstream's controllers, its scheduler and five hollow kubelets on top of
## `make run`. Needs Go; compiling them takes a quarter of an hour, once.
DEMO := kube-controller-manager kube-scheduler kubemark
demo: run $(DEMO:%=$(REFERENCE)/%)
	@MIZZEN_CERTS=$(BIN)/mizzen-certs REFERENCE=$(REFERENCE) apiserver/demo.sh start

## Stops what `make run` and `make demo` started; the data stays in run/.
stop:
	@store/run.sh stop

build: packages
	cargo build --release --locked -p mizzen-store -p mizzen-certs -p mizzen-apiserver

## Everything that must hold before a change lands: what CI runs.
test: packages browser tools reference h2spec kubectl etcd-3.4 lint build
	@tests/run.sh

## The same suites for hours: more seeds, more kills, longer runs.
test-long: packages browser tools reference h2spec kubectl etcd-3.4 build $(DEMO:%=$(REFERENCE)/%)
	@tests/run.sh long

lint: packages tools
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	cargo clippy --release --locked --workspace --features mizzen-store/planted -- -D warnings
	tests/deny.sh

# What compiling RocksDB and the test clients takes from Debian.
packages:
	@tests/packages.sh

# A test that wants a browser says so itself.
browser: packages
	@tests/packages.sh browser || echo "skipped: the status page in a browser (no Chromium)"

tools: $(TOOLS)/bin/cargo-deny

$(TOOLS)/bin/cargo-deny:
	CARGO_TARGET_DIR=$(TOOLS)/target cargo install --locked --version 0.20.2 --root $(TOOLS) cargo-deny

# etcd itself, the other side of the comparisons. Needs Go.
reference: $(REFERENCE)/server $(REFERENCE)/kube-apiserver

$(REFERENCE)/server: tests/reference/go.mod
	@mkdir -p $(REFERENCE)
	@if command -v go >/dev/null; then cd tests/reference && GOBIN=$(REFERENCE) go install tool && touch $(REFERENCE)/server; \
	else echo "skipped: comparisons with etcd (no go on PATH)"; fi

# What judges HTTP/2 servers. Needs Go.
h2spec: $(REFERENCE)/h2spec

$(REFERENCE)/h2spec: tests/h2spec/go.mod
	@mkdir -p $(REFERENCE)
	@if command -v go >/dev/null; then cd tests/h2spec && GOBIN=$(REFERENCE) go install tool && touch $(REFERENCE)/h2spec; \
	else echo "skipped: h2spec (no go on PATH)"; fi

# Upstream's kube-apiserver, which the resource API is compared with: a quarter of
# an hour of compiling on two cores, once, behind whatever else compiles. Needs Go.
# Its other components are built by name:
# make ~/.cache/mizzen/reference/kube-scheduler
UPSTREAM := kube-apiserver kube-controller-manager kube-scheduler kubemark
VERSION := k8s.io/component-base/version

$(UPSTREAM:%=$(REFERENCE)/%): $(REFERENCE)/%: tests/kubernetes/components/go.mod
	@mkdir -p $(REFERENCE)
	@if command -v go >/dev/null; then cd tests/kubernetes/components && \
		nice go build -trimpath -ldflags "-s -w -X $(VERSION).gitVersion=v1.37.2 -X $(VERSION).gitMajor=1 -X $(VERSION).gitMinor=37" -o $@ k8s.io/kubernetes/cmd/$*; \
	else echo "skipped: comparisons with $* (no go on PATH)"; fi

# The newest kubectl, beside the one that may be installed.
kubectl:
	@tests/kubectl.sh $(REFERENCE)

# Debian's etcd 3.4, whose data is taken over.
etcd-3.4:
	@tests/etcd-3.4.sh $(REFERENCE)
