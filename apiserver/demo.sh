#!/bin/bash
# Upstream's controllers, its scheduler and hollow kubelets (real kubelets whose
# containers are not run) on what store/run.sh started, each with a certificate
# of its own and no more rights than upstream's roles give it.
#   apiserver/demo.sh start   (MIZZEN_CERTS; REFERENCE: the folder of upstream's executables)
# store/run.sh stops them. A test names another folder, port and number: RUN,
# SHARED, NODES.
set -euo pipefail
cd "$(dirname "$0")/.."
RUN=${RUN:-run}
SHARED=${SHARED:-7443}
NODES=${NODES:-5}
PKI=$RUN/pki
DEMO=$RUN/demo

source store/processes.sh

# identity NAME USER [GROUP]: a certificate and a kubeconfig with it.
identity() {
    "$MIZZEN_CERTS" "$PKI" sign "$1" --authority=client-ca "--common-name=$2" ${3:+"--organization=$3"}
    local pki
    pki=$(realpath "$PKI")
    (umask 077 && cat >"$DEMO/$1.kubeconfig") <<TEXT
apiVersion: v1
kind: Config
clusters:
- name: mizzen
  cluster:
    server: https://127.0.0.1:$SHARED
    certificate-authority: $pki/ca.crt
contexts:
- name: mizzen
  context:
    cluster: mizzen
    user: $1
current-context: mizzen
users:
- name: $1
  user:
    client-certificate: $pki/$1.crt
    client-key: $pki/$1.key
TEXT
}

# run NAME PROGRAM ARGUMENT...
run() {
    local name=$1 program=$2
    shift 2
    runs "demo-$name" && return
    TMPDIR=$(realpath "$DEMO/tmp") "$REFERENCE/$program" "$@" \
        </dev/null >>"$RUN/demo-$name.log" 2>&1 &
    echo $! >"$RUN/demo-$name.pid"
}

start() {
    for program in kube-controller-manager kube-scheduler kubemark; do
        if [ ! -x "$REFERENCE/$program" ]; then
            echo "$program is not there ($REFERENCE): building it takes Go on PATH" >&2
            exit 1
        fi
    done
    mkdir -p "$DEMO/tmp"
    identity kube-controller-manager system:kube-controller-manager
    identity kube-scheduler system:kube-scheduler
    run kube-controller-manager kube-controller-manager \
        --kubeconfig "$DEMO/kube-controller-manager.kubeconfig" --secure-port 0 \
        --use-service-account-credentials \
        --service-account-private-key-file "$PKI/sa.key" --root-ca-file "$PKI/ca.crt" \
        --cluster-signing-cert-file "$PKI/client-ca.crt" --cluster-signing-key-file "$PKI/client-ca.key"
    run kube-scheduler kube-scheduler \
        --kubeconfig "$DEMO/kube-scheduler.kubeconfig" --secure-port 0
    for i in $(seq "$NODES"); do
        identity "hollow-$i" "system:node:hollow-$i" system:nodes
        run "hollow-$i" kubemark --morph kubelet --name "hollow-$i" --use-host-image-service=false \
            --kubeconfig "$DEMO/hollow-$i.kubeconfig" --kubelet-port 0 --kubelet-read-only-port 0
    done
    cat <<TEXT

Upstream's kube-controller-manager, kube-scheduler and $NODES hollow kubelets, each with
a certificate of its own, work on the three replicas (logs: $RUN/demo-*.log). Try:

    export KUBECONFIG=$(realpath "$RUN/kubeconfig")
    kubectl get nodes
    kubectl create deployment web --image=nginx --replicas=10
    kubectl get pods -o wide -w

then lose a whole replica, store and API, and see nothing of it:

    kill -9 \$(cat $RUN/infra2.pid $RUN/apiserver2.pid)
    kubectl scale deployment web --replicas=20
    kubectl get pods

\`make run\` starts it again, \`make stop\` stops all.
TEXT
}

case "${1:-}" in
start) start ;;
*) echo "usage: apiserver/demo.sh start" >&2; exit 2 ;;
esac
