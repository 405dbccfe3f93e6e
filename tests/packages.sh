#!/bin/sh
# Installs the Debian packages that the build and the tests need and that are
# not there yet: a C++ compiler and libclang for RocksDB, protoc and the types
# that come with it for the tests' Rust client of etcd, etcd's own command line client,
# and ip for hosts of their own. With `browser`: Chromium, in which a test looks at
# the status page.
set -eu
missing=
if [ "${1-}" = browser ]; then
    for name in chromium-headless-shell chromium chromium-browser; do
        command -v "$name" >/dev/null && exit 0
    done
    missing=" chromium-headless-shell"
else
    command -v c++ >/dev/null || missing="$missing g++"
    # libclang-cpp is another library.
    [ -n "$(find /usr/lib/ -name 'libclang.so*' -o -name 'libclang-[0-9]*.so*')" ] || missing="$missing libclang-dev"
    command -v protoc >/dev/null || missing="$missing protobuf-compiler"
    [ -e /usr/include/google/protobuf/descriptor.proto ] || missing="$missing libprotobuf-dev"
    command -v etcdctl >/dev/null || missing="$missing etcd-client"
    command -v ip >/dev/null || missing="$missing iproute2"
fi
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null || { echo "please install:$missing" >&2; exit 1; }
root=
[ "$(id -u)" = 0 ] || root=sudo
echo "installing:$missing"
$root apt-get update -q >/dev/null
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $root apt-get install -q -y --no-install-recommends $missing >/dev/null
