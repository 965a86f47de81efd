#!/bin/sh
# Installs what samformer is built with on Debian 12 or Ubuntu 24.04 (and newer), and the packages that its arguments
# name; only what is missing. Quiet unless something fails. Needs root or sudo where something is missing, nothing
# otherwise.
set -eu

packages="g++ cmake ninja-build pkg-config ca-certificates libdnnl-dev libcli11-dev nlohmann-json3-dev
libtomlplusplus-dev libeigen3-dev libfmt-dev libssl-dev libcurl4-openssl-dev zlib1g-dev
libzstd-dev libhowardhinnant-date-dev tzdata libgtest-dev help2man $*"

fail() {
  echo "setup: $1" >&2
  exit 1
}

if ! command -v dpkg-query >/dev/null; then
  fail "expected Debian or Ubuntu (no dpkg-query here). Install a C++20 compiler, CMake 3.25 or newer, Ninja, oneDNN, \
CLI11, Eigen, nlohmann-json, toml++, fmt, OpenSSL, libcurl, zlib, zstd, Howard Hinnant's date library and GoogleTest, then: cmake --preset release && cmake --build --preset release"
fi

missing=
for package in $packages; do
  status=$(dpkg-query --show --showformat '${db:Status-Abbrev}' "$package" 2>/dev/null) || status=
  case $status in
    ii* | hi*) ;;
    *) missing="$missing $package" ;;
  esac
done

if [ -n "$missing" ]; then
  as_root=
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "packages are missing:$missing. Run this script as root, or: apt-get install$missing"
    as_root=sudo
  fi
  echo "setup: installing$missing" >&2
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes "$@" >"$log" 2>&1; }
  # Package lists may be absent (a fresh container) or stale (a package they name is gone).
  # shellcheck disable=SC2086
  { apt update && apt install --no-install-recommends $missing; } || {
    tail -n 20 "$log" >&2
    fail "apt-get failed; the lines above say why. Is there a network, and is the package source list right?"
  }
fi

version=$(cmake --version | sed -n '1s/.* //p')
oldest=$(printf '%s\n' 3.25 "$version" | sort -V | head -n 1)
[ "$oldest" = 3.25 ] || fail "CMake $version is too old: 3.25 or newer is needed (Debian 12, Ubuntu 24.04)"
