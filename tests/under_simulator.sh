#!/bin/sh
# Runs a CUDA program on the PTX simulator that CUDASIM names; any finding fails.
if [ -z "$CUDASIM" ]; then
  echo "skipped: the environment variable CUDASIM names no PTX simulator library"
  exit 77
fi
CUDASIM_STRICT=1 LD_PRELOAD="$CUDASIM" exec "$@"
