#!/bin/sh
# From a fresh machine to a forecast: installs what is missing, builds, trains on the built-in series and forecasts its
# next steps. Arguments go to `samformer train`:
#   tools/scripts/run.sh --data sales.csv --lookback 128 --horizon 30 --out runs/sales
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
"$root/tools/scripts/setup.sh"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "building (about ten minutes the first time on two cores)" >&2
(
  cd "$root"
  cmake --preset release -DSAMFORMER_TESTS=OFF && cmake --build --preset release --target samformer
) >"$log" 2>&1 || {
  cat "$log" >&2
  exit 1
}
samformer=$root/build/release/samformer

run=
forecast=yes
previous=
for argument; do
  case $previous,$argument in
    --out,* | --resume,*) run=$argument ;;
    *,--dry-run | *,--print-config | *,--help | *,-h) forecast= ;;
    *,--out=* | *,--resume=*) run=${argument#*=} ;;
  esac
  previous=$argument
done
if [ -z "$run" ]; then
  run=runs/$(date -u +%Y%m%d-%H%M%S)
  set -- --out "$run" "$@"
fi
"$samformer" train "$@"
[ "$forecast" ] || exit 0
"$samformer" predict "$run" --out "$run/forecast.csv"
echo
echo "program   $samformer"
echo "forecast  $run/forecast.csv"
echo "result    $run/result.json"
