#!/bin/sh
# Fails where a source file is not as clang-format 14 (Debian 12's; other versions differ in details) leaves it.
#   tools/scripts/lint.sh            check the format
#   tools/scripts/lint.sh --fix      format in place
#   tools/scripts/lint.sh --tidy [FILE.cpp ...]
#                                    check the format, then clang-tidy of these files, or of what differs from HEAD
set -eu
cd "$(dirname "$0")/../.."
mode=${1:-}
case $mode in
  '' | --fix | --tidy) ;;
  *)
    echo "lint: unknown argument '$mode', expected --fix or --tidy [FILES]" >&2
    exit 2
    ;;
esac

command -v clang-format-14 >/dev/null || tools/scripts/setup.sh clang-format-14
sources=$(find kernels core model optim tools tests -name '*.h' -o -name '*.cpp' -o -name '*.cu')
if [ "$mode" = --fix ]; then
  # shellcheck disable=SC2086
  clang-format-14 -i $sources
  exit 0
fi
# shellcheck disable=SC2086
clang-format-14 --dry-run --Werror $sources || {
  echo "lint: the lines above are not formatted: tools/scripts/lint.sh --fix" >&2
  exit 1
}
echo "lint: format is right"
[ "$mode" = --tidy ] || exit 0

tidy=$(command -v clang-tidy-14 || command -v clang-tidy) || {
  echo "lint: skipped clang-tidy, which is not installed (Debian: clang-tidy)"
  exit 0
}
shift
# shellcheck disable=SC2046
[ $# -gt 0 ] || set -- $(git diff --name-only --diff-filter=d HEAD -- '*.cpp')
[ $# -gt 0 ] || {
  echo "lint: no .cpp file differs from HEAD"
  exit 0
}
cmake --preset ci >/dev/null
printf '%s\n' "$@" | xargs --max-procs "$(nproc)" --max-args 1 "$tidy" -p build/ci --quiet || exit 1
echo "lint: clang-tidy finds nothing"
