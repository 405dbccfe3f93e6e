#!/bin/sh
# Runs every suite of the workspace and says in the end what was skipped. With
# `long` as its argument the suites that grow with a number get a larger one.
set -u
: "${MIZZEN_SKIPPED:?names the file in which tests note what they skip}"
# On two cores: tests with clusters wait more than they work.
: "${RUST_TEST_THREADS:=4}"
export RUST_TEST_THREADS
if [ "${1-}" = long ]; then
    export MIZZEN_TEST_SEQUENCES=500 MIZZEN_TEST_CASES=50000 MIZZEN_TEST_REQUESTS=200000
    export MIZZEN_TEST_MUTATIONS=5000000 MIZZEN_TEST_ROUNDS=10 MIZZEN_TEST_ENTRIES=6
    export MIZZEN_DEMO=1 MIZZEN_ETCDCTL_CHECK=1
    export MIZZEN_SNAPSHOT_WRITES=500000 MIZZEN_SNAPSHOT_KILLS=30
    export MIZZEN_TAKEOVER_KEYS=100000
    export MIZZEN_STORMS=300 MIZZEN_MEMBERSHIP_SEEDS=300 MIZZEN_POWER_STRIDE=1 MIZZEN_POWER_LOSSES=200
    export MIZZEN_AUTH_SEQUENCES=300 MIZZEN_ETCD_SUITE=all MIZZEN_ETCD_SUITE_ROUNDS=3 MIZZEN_CASES=10000 MIZZEN_JEPSEN_TIME=600s
fi
rm -f "$MIZZEN_SKIPPED"
status=0
cargo test --release --locked --workspace --no-fail-fast || status=$?
if [ -s "$MIZZEN_SKIPPED" ]; then
    sort -u "$MIZZEN_SKIPPED"
else
    echo "no test was skipped"
fi
exit "$status"
