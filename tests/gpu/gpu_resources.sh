#!/bin/sh
# Compiles every kernel for one architecture and fails on a spill, a stack frame or more than 128 registers.
# usage: gpu_resources.sh NVCC SOURCE_FOLDER [ARCHITECTURE, 80]
nvcc=$1 source=$2 arch=${3:-80}
for file in "$source"/kernels/cuda/*.cu; do
  "$nvcc" -std=c++17 -O3 --expt-relaxed-constexpr -gencode "arch=compute_$arch,code=sm_$arch" -Xptxas -v -I"$source" \
    -cubin -o /dev/null "$file" 2>&1 || echo "error: $file does not compile"
done | awk '
  /error *:/ { print; bad = 1 }
  /Compiling entry function/ { kernel = $0; sub(/.*function ./, "", kernel); sub(/. for .*/, "", kernel); kernels++ }
  /bytes stack frame/ { if ($1 + 0 > 0 || $5 + 0 > 0 || $9 + 0 > 0) { print kernel ": " $0; bad = 1 } }
  /Used [0-9]+ registers/ {
    match($0, /Used [0-9]+/); used = substr($0, RSTART + 5, RLENGTH - 5) + 0
    if (used > most) most = used
    if (used > 128) { print kernel ": " used " registers"; bad = 1 }
  }
  END {
    print kernels + 0 " kernels, at most " most + 0 " registers" (bad ? "" : ", no spills, no stack frames")
    exit bad || kernels == 0
  }'
