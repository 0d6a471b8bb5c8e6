#!/bin/sh
# Builds PgBouncer from Debian's source package into benchmarks/.cache/pgbouncer, for systems whose
# own package is older than 1.21 and carries no prepared statements in transaction mode.
# Needs Debian or a system like it, and root for apt-get. Usage: build_pgbouncer.sh [SUITE]
set -eu

suite=${1:-trixie}
cache=$(cd "$(dirname "$0")" && pwd)/.cache
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    dpkg-dev gcc make pkg-config libevent-dev libssl-dev libc-ares-dev

# The suite's list of sources, apart from the system's own.
mkdir -p "$work/lists/partial" "$work/archives/partial" "$cache"
cat > "$work/debian.sources" <<EOF
Types: deb-src
URIs: http://deb.debian.org/debian
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
apt() {
    apt-get -qq -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::SourceList="$work/debian.sources" \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work" -o APT::Sandbox::User=root "$@"
}
cd "$work"
apt update
apt --download-only source "pgbouncer/$suite"
# Debian's patches are applied; the hashes were checked against the signed list.
dpkg-source --no-check -x pgbouncer_*.dsc source
cd source
./configure --quiet
make -s -j"$(nproc)" pgbouncer
install -m 755 pgbouncer "$cache/pgbouncer"
"$cache/pgbouncer" --version
