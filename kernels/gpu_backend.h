// Which of the two builds of the GPU code a file means: names that exist in both live in an inline namespace of their
// own, so that one program can hold the GPU's and the SIMT emulator's.
#pragma once

#ifdef SAMFORMER_EMULATED
#define SAMFORMER_GPU_BACKEND emulated
#else
#define SAMFORMER_GPU_BACKEND cuda
#endif
