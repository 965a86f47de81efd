#!/bin/sh
# Runs a CUDA program on the PTX simulator that CUDASIM names (any finding fails), or on this machine's GPU.
if [ -n "$CUDASIM" ]; then
  CUDASIM_STRICT=1 LD_PRELOAD="$CUDASIM" exec "$@"
fi
if [ ! -e /dev/nvidiactl ] && [ ! -e /dev/dxg ]; then
  echo "skipped: no NVIDIA driver here, and the environment variable CUDASIM names no PTX simulator library"
  exit 77
fi
exec "$@"
