#!/bin/sh
# Licences, sources and banned crates always; advisories when their database
# can be fetched (it lives in a git repository).
set -eu
cargo deny --config .deny.toml --locked --all-features check bans licenses sources
if cargo deny --config .deny.toml --locked fetch db >/dev/null 2>&1; then
    cargo deny --config .deny.toml --locked --all-features check advisories
else
    echo "skipped: advisories (their database cannot be fetched from here)"
fi
