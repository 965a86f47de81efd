#!/bin/sh
# Installs what is missing, builds with a preset (ci, unless told otherwise) and runs all tests.
#   tools/scripts/test.sh [ci|debug|asan-ubsan|tsan] [arguments of ctest]
# --fast builds and runs the unit and operation tests alone, one process an executable: half a minute once built.
#   tools/scripts/test.sh --fast [preset]
set -eu
cd "$(dirname "$0")/../.."
fast=
if [ "${1:-}" = --fast ]; then
  fast=yes
  shift
fi
preset=ci
if [ $# -gt 0 ]; then
  preset=$1
  shift
fi
tools/scripts/setup.sh clang libclang-rt-dev libomp-dev  # for tools/scripts/fuzz.sh
cmake --preset "$preset"
if [ "$fast" ]; then
  cmake --build --preset "$preset" --target unit_and_ops_tests
  # The environment that tests/CMakeLists.txt gives them. A line for what passed, all it said for what failed.
  env CUDA_VISIBLE_DEVICES=-1 OMP_WAIT_POLICY=passive \
    xargs --max-procs "$(nproc)" --max-args 1 sh -c '
      if text=$("$1" --gtest_brief=1 2>&1); then
        echo "${1##*/}: $(echo "$text" | sed -n "s/^\[=*\] //p")"
      else
        printf "%s\n%s\n" "$1 FAILED" "$text"
        exit 1
      fi' sh <"build/$preset/tests/unit_and_ops_tests.txt"
else
  cmake --build --preset "$preset"
  ctest --preset "$preset" --parallel "$(nproc)" "$@"
fi
