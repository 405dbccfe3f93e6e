#!/bin/bash
# Three replicas on this machine, each with the resource API beside it: the
# store on the client ports of etcd's Procfile.
#   store/run.sh start   (MIZZEN, MIZZEN_CERTS, MIZZEN_APISERVER: the executables)
#   store/run.sh stop
# A test names another folder and other ports: RUN, CLIENTS, PEERS, APIS, SHARED.
set -euo pipefail
cd "$(dirname "$0")/.."
RUN=${RUN:-run}
read -ra CLIENTS <<<"${CLIENTS:-2379 22379 32379}"
read -ra PEERS <<<"${PEERS:-12380 22380 32380}"
read -ra APIS <<<"${APIS:-6443 16443 26443}"
# Of all three servers of the API: a connection goes to one that lives.
SHARED=${SHARED:-7443}
CLUSTER=infra1=https://127.0.0.1:${PEERS[0]},infra2=https://127.0.0.1:${PEERS[1]},infra3=https://127.0.0.1:${PEERS[2]}
# Two authorities, so that no client's certificate opens a port of peers.
CLIENT_PKI=$RUN/pki/etcd PEER_PKI=$RUN/pki/etcd-peer

source store/processes.sh

stop() {
    # Clients before what they are clients of.
    for pid in "$RUN"/demo-*.pid "$RUN"/apiserver*.pid "$RUN"/infra*.pid; do
        alive "$pid" || { rm -f "$pid"; continue; }
        kill "$(cat "$pid")"
        while alive "$pid"; do sleep 0.1; done
        rm -f "$pid"
    done
}

# wait_for NAME CONDITION...
wait_for() {
    local name=$1
    shift
    for _ in $(seq 600); do
        "$@" && return
        alive "$RUN/$name.pid" || break
        sleep 0.1
    done
    tail -n 5 "$RUN/$name.log" >&2
    echo "$name did not start" >&2
    exit 1
}

# Nothing that is there already is made again.
make_certificates() {
    "$MIZZEN_CERTS" "$CLIENT_PKI" authority
    "$MIZZEN_CERTS" "$PEER_PKI" authority
    for i in 1 2 3; do
        for pki in "$CLIENT_PKI" "$PEER_PKI"; do
            "$MIZZEN_CERTS" "$pki" sign "infra$i" --host=127.0.0.1 --host=localhost --host=::1
        done
    done
    "$MIZZEN_CERTS" "$CLIENT_PKI" sign client --common-name=root
    "$MIZZEN_CERTS" "$CLIENT_PKI" sign apiserver --common-name=mizzen-apiserver
}

# The key that secrets are encrypted with in the store. Those of a start before there
# was one stay readable, and are encrypted when they are written next.
make_encryption() {
    local file=$RUN/pki/encryption.yaml
    [ -f "$file" ] && return
    mkdir -p "$RUN/pki"
    (umask 077 && cat >"$file.new") <<TEXT
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - aesgcm:
      keys:
      - name: first
        secret: $(head -c 32 /dev/urandom | base64)
  - identity: {}
TEXT
    mv "$file.new" "$file"
}

# A start before there were certificates has left data whose members know each
# other by http: they would not find each other.
refuse_old() {
    if [ -d "$RUN/infra1/member" ] && [ ! -d "$PEER_PKI" ]; then
        echo "$RUN/ is of a version without TLS; move it away (or remove it) first" >&2
        exit 1
    fi
}

start_store() {
    for i in 1 2 3; do
        runs "infra$i" && continue
        client=https://127.0.0.1:${CLIENTS[i - 1]} peer=https://127.0.0.1:${PEERS[i - 1]}
        "$MIZZEN" --name "infra$i" --data-dir "$RUN/infra$i" \
            --listen-client-urls "$client" --advertise-client-urls "$client" \
            --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
            --initial-cluster "$CLUSTER" --initial-cluster-state new \
            --cert-file "$CLIENT_PKI/infra$i.crt" --key-file "$CLIENT_PKI/infra$i.key" \
            --client-cert-auth --trusted-ca-file "$CLIENT_PKI/ca.crt" \
            --peer-cert-file "$PEER_PKI/infra$i.crt" --peer-key-file "$PEER_PKI/infra$i.key" \
            --peer-client-cert-auth --peer-trusted-ca-file "$PEER_PKI/ca.crt" \
            </dev/null >>"$RUN/infra$i.log" 2>&1 &
        echo $! >"$RUN/infra$i.pid"
    done
    for i in 1 2 3; do
        # Serving is what the log says last.
        wait_for "infra$i" grep -q 'ready to serve client requests' "$RUN/infra$i.log"
    done
}

# One after the other: the first makes the certificates that all of them use, and
# the administrator's.
start_apis() {
    for i in 1 2 3; do
        runs "apiserver$i" && continue
        # Its own replica first.
        servers=()
        for n in 0 1 2; do servers+=("https://127.0.0.1:${CLIENTS[(i - 1 + n) % 3]}"); done
        rm -f "$RUN/kubeconfig-$i"
        "$MIZZEN_APISERVER" --etcd-servers "$(IFS=,; echo "${servers[*]}")" \
            --etcd-cafile "$CLIENT_PKI/ca.crt" \
            --etcd-certfile "$CLIENT_PKI/apiserver.crt" --etcd-keyfile "$CLIENT_PKI/apiserver.key" \
            --listen "127.0.0.1:${APIS[i - 1]}" --listen-shared "127.0.0.1:$SHARED" --cert-dir "$RUN/pki" \
            --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
            --enable-bootstrap-token-auth \
            --encryption-provider-config "$RUN/pki/encryption.yaml" \
            --encryption-provider-config-automatic-reload \
            --kubeconfig "$RUN/kubeconfig-$i" \
            </dev/null >>"$RUN/apiserver$i.log" 2>&1 &
        echo $! >"$RUN/apiserver$i.pid"
        # Written when it is about to serve.
        wait_for "apiserver$i" test -f "$RUN/kubeconfig-$i"
    done
    # For whoever does not care which of them answers.
    sed "s#server: .*#server: https://127.0.0.1:$SHARED#" "$RUN/kubeconfig-1" >"$RUN/kubeconfig"
}

start() {
    mkdir -p "$RUN"
    refuse_old
    make_certificates
    make_encryption
    start_store
    start_apis
    pki=$(realpath "$CLIENT_PKI")
    cat <<TEXT

Three replicas serve etcd's API on this machine, to clients with a certificate:
    https://127.0.0.1:${CLIENTS[0]}  https://127.0.0.1:${CLIENTS[1]}  https://127.0.0.1:${CLIENTS[2]}

    export ETCDCTL_API=3
    etcdctl --cacert $pki/ca.crt --cert $pki/client.crt --key $pki/client.key --endpoints https://127.0.0.1:${CLIENTS[0]},https://127.0.0.1:${CLIENTS[1]},https://127.0.0.1:${CLIENTS[2]} endpoint status --write-out=table

or, shorter from the second command on:

    export ETCDCTL_CACERT=$pki/ca.crt ETCDCTL_CERT=$pki/client.crt ETCDCTL_KEY=$pki/client.key
    export ETCDCTL_ENDPOINTS=https://127.0.0.1:${CLIENTS[0]},https://127.0.0.1:${CLIENTS[1]},https://127.0.0.1:${CLIENTS[2]}
    etcdctl put greeting hello
    etcdctl get greeting

and beside each of them Kubernetes' API:
    https://127.0.0.1:${APIS[0]}  https://127.0.0.1:${APIS[1]}  https://127.0.0.1:${APIS[2]}
and at an address that all of them share, where one that lives answers:
    https://127.0.0.1:$SHARED

    export KUBECONFIG=$(realpath "$RUN/kubeconfig")
    kubectl create deployment web --image=nginx
    kubectl get deployments

The kubeconfig is an administrator's (kubernetes-admin of system:masters): who has
it may do everything. Who shows nothing gets 401, and everybody else what roles and
bindings say: kubectl create role, rolebinding, token.
It is for the shared address; $RUN/kubeconfig-1 to -3 are for one server each.
Secrets are encrypted in the store with the key in $RUN/pki/encryption.yaml, which is
read again when it changes.

Data and logs are in $RUN/. \`make stop\` stops them, \`make run\` starts them again.
TEXT
}

case "${1:-}" in
start) start ;;
stop) stop ;;
*) echo "usage: store/run.sh start|stop" >&2; exit 2 ;;
esac
