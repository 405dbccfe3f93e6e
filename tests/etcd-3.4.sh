#!/bin/sh
# Puts Debian's etcd, which is a 3.4, into a directory as etcd-3.4, for tests that take
# over its data. Its package is unpacked and not installed. Where it cannot be had, the
# tests do without it.
set -eu
dir=$1
[ -x "$dir/etcd-3.4" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
{
    cd "$work" && apt-get download -q etcd-server && dpkg-deb -x etcd-server_*.deb . &&
        mkdir -p "$dir" && cp usr/bin/etcd "$dir/etcd-3.4.partial" &&
        mv "$dir/etcd-3.4.partial" "$dir/etcd-3.4"
} >/dev/null 2>&1 || echo "skipped: etcd 3.4 (its package cannot be had)"
