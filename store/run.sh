#!/bin/bash
# Three replicas on this machine, on the client ports of etcd's Procfile.
#   store/run.sh start   (MIZZEN: the executable)
#   store/run.sh stop
set -euo pipefail
cd "$(dirname "$0")/.."
RUN=run
CLUSTER=infra1=http://127.0.0.1:12380,infra2=http://127.0.0.1:22380,infra3=http://127.0.0.1:32380
CLIENTS=(2379 22379 32379)

alive() { [ -f "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

stop() {
    for pid in "$RUN"/infra*.pid; do
        alive "$pid" || { rm -f "$pid"; continue; }
        kill "$(cat "$pid")"
        while alive "$pid"; do sleep 0.1; done
        rm -f "$pid"
    done
}

start() {
    mkdir -p "$RUN"
    for i in 1 2 3; do
        if alive "$RUN/infra$i.pid"; then
            echo "infra$i runs already (pid $(cat "$RUN/infra$i.pid")); \`make stop\` stops it"
            continue
        fi
        client=http://127.0.0.1:${CLIENTS[i - 1]} peer=http://127.0.0.1:${i}2380
        "$MIZZEN" --name "infra$i" --data-dir "$RUN/infra$i" \
            --listen-client-urls "$client" --advertise-client-urls "$client" \
            --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
            --initial-cluster "$CLUSTER" --initial-cluster-state new \
            </dev/null >>"$RUN/infra$i.log" 2>&1 &
        echo $! >"$RUN/infra$i.pid"
    done
    for i in 1 2 3; do
        # Serving is what the log says last.
        for _ in $(seq 600); do
            grep -q 'ready to serve client requests' "$RUN/infra$i.log" && break
            alive "$RUN/infra$i.pid" || { tail -n 5 "$RUN/infra$i.log" >&2; echo "infra$i did not start" >&2; exit 1; }
            sleep 0.1
        done
    done
    cat <<TEXT

Three replicas serve etcd's API on this machine:
    http://127.0.0.1:2379  http://127.0.0.1:22379  http://127.0.0.1:32379

    export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379
    etcdctl put greeting hello
    etcdctl get greeting
    etcdctl endpoint status --write-out=table

Data and logs are in $RUN/. \`make stop\` stops them, \`make run\` starts them again.
TEXT
}

case "${1:-}" in
start) start ;;
stop) stop ;;
*) echo "usage: store/run.sh start|stop" >&2; exit 2 ;;
esac
