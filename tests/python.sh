#!/bin/sh
# The Python wheel around a library that is built, in a virtual environment with nothing else of ours:
#   tests/python.sh BUILD [arguments of pytest]
# Then tests/onnx_test.py, where onnxruntime can be installed.
# Exit code 77: skipped, where there is no Python with venv or no package registry.
set -eu
build=$(cd "$1" && pwd)
shift
here=$(cd "$(dirname "$0")" && pwd)
folder=$build/python
wheel=$("$here/../tools/scripts/wheel.sh" "$folder" "$build/libsamformer.so")
size=$(wc -c <"$wheel")
[ "$size" -lt 25000000 ] || {
  echo "python: the wheel has $size bytes, at most 25 MB were expected" >&2
  exit 1
}
[ -x "$folder/tests/bin/python" ] || python3 -m venv "$folder/tests"
"$folder/tests/bin/pip" --quiet install numpy pandas polars scikit-learn pytest >"$folder/log" 2>&1 || {
  echo "python: skipped: pip cannot install what the tests use: $(tail -n 1 "$folder/log")" >&2
  exit 77
}
"$folder/tests/bin/pip" --quiet install sktime >"$folder/log" 2>&1 ||
  echo "python: sktime cannot be installed, its test is skipped" >&2
"$folder/tests/bin/pip" --quiet install --force-reinstall --no-deps "$wheel"
cd "$folder"
TEST_PROGRAM=$build/samformer tests/bin/python -m pytest -q -p no:cacheprovider "$here/python" "$@"
if tests/bin/pip --quiet install onnxruntime >log 2>&1; then
  tests/bin/python "$here/onnx_test.py" "$build/samformer"
else
  echo "python: onnxruntime cannot be installed, the ONNX test is skipped" >&2
fi
