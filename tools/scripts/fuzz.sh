#!/bin/sh
# Runs the fuzz targets of tests/fuzz, as many at a time as there are cores:
#   tools/scripts/fuzz.sh [TIME [TARGET ...]]     TIME of each target: 10 (minutes), 30s; one minute unless told
# Installs clang where it is missing. Begins from tests/fuzz/seeds and from what earlier runs have kept in
# build/fuzz/corpus. Exit code 1 where something is found: its input's path, and the command that repeats it.
set -eu
cd "$(dirname "$0")/../.."
time=${1:-1}
seconds=${time%s}
case $seconds in
  '' | *[!0-9]* | 0*)
    echo "fuzz: expected minutes (10) or seconds (30s), found '$time'" >&2
    exit 2
    ;;
esac
[ "$seconds" != "$time" ] || seconds=$((time * 60))
[ $# -eq 0 ] || shift
# shellcheck disable=SC2046
[ $# -gt 0 ] || set -- $(ls tests/fuzz/seeds)

tools/scripts/setup.sh clang libclang-rt-dev libomp-dev
cmake --preset fuzz
cmake --build --preset fuzz

# Inputs that are read from files are written to memory.
memory=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")/samformer_fuzz_XXXXXX")
trap 'rm -rf "$memory"' EXIT
trap 'exit 130' INT TERM
export TMPDIR="$memory" seconds
# On a small stack recursion without a bound shows with small inputs; TOML's 256 levels of values pass.
# shellcheck disable=SC3045
ulimit -s 512
# Faster by a third; the command that repeats a finding shows where memory came from.
export ASAN_OPTIONS=malloc_context_size=0:quarantine_size_mb=1 UBSAN_OPTIONS=print_stacktrace=1
build=build/fuzz
mkdir -p $build/corpus $build/findings
echo "fuzz: $seconds s of each: $*"
# A line for each target; of a finding also what libFuzzer said.
found=
printf '%s\n' "$@" | xargs --max-procs "$(nproc)" --max-args 1 sh -c '
  target=$1 program=build/fuzz/tests/fuzz/fuzz_$1 log=build/fuzz/$1.log
  mkdir -p "build/fuzz/corpus/$target"
  "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 -entropic=0 \
    -print_final_stats=1 -artifact_prefix="build/fuzz/findings/$target-" \
    "build/fuzz/corpus/$target" "tests/fuzz/seeds/$target" >"$log" 2>&1 </dev/null
  code=$?
  awk -v target="$target" "/^stat::number/ {n = \$2} /^stat::average/ {print target \": \" n \" executions, \" \$2 \"/s\"}" "$log"
  [ $code -ne 0 ] || exit 0
  grep -v "^#\|NEW_FUNC" "$log" | tail -n 60
  input=$(sed -n "s/.*Test unit written to //p" "$log")
  echo "fuzz: FOUND by $target: ${input:-see $log}"
  echo "  again: (ulimit -s 512; $program $input)"
  exit 1' sh || found=yes
cd $build
printf '%s.log\n' "$@" | xargs awk '/^stat::number/ {sum += $2} END {print "fuzz: " sum + 0 " executions in all"}'
[ ! "$found" ]
