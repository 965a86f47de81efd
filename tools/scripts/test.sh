#!/bin/sh
# Installs what is missing, builds with a preset (ci, unless told otherwise) and runs all tests.
#   tools/scripts/test.sh [ci|debug|asan-ubsan|tsan] [arguments of ctest]
set -eu
cd "$(dirname "$0")/../.."
preset=ci
if [ $# -gt 0 ]; then
  preset=$1
  shift
fi
tools/scripts/setup.sh
cmake --preset "$preset"
cmake --build --preset "$preset"
ctest --preset "$preset" --parallel "$(nproc)" "$@"
