// Threads and instruction sets, in one place: runs a kernel's body over independent blocks, on all threads
// (omp_get_max_threads of the caller) and compiled for the widest vectors of this processor.
//
//   parallel_for<T>(blocks, [=](std::int64_t block) { ... });               T: the scalar of the kernel
//   parallel_for<T>(blocks, [=](std::int64_t block, auto target) { ... });  target: the vectors it is compiled for
//
// * Determinism: the caller cuts its work into blocks by shape alone and no block reads what another one writes, so the
//   result does not depend on the number of threads. Reductions go through one slot a block, added up in block order.
// * Threads: a pool of our own. Each thread begins with its own run of blocks (what it wrote in the region before is in
//   its cache) and then helps the others, so that a slow core delays little. The caller never waits for a thread that
//   has not begun, and nobody waits spinning for long: beside other programs a fork-join of spinning threads, as
//   OpenMP's, is 10 to 100 times slower. A region inside a region, or while another caller has the pool, is serial.
// * Instruction sets: the body is inlined (`flatten`) into functions compiled for x86-64-v4 (AVX-512), v3 (AVX2, FMA)
//   and the baseline; which one runs is decided once, at run time. One binary is fast everywhere and starts anywhere.
//   float, what training runs on, has all three; the references have fewer (double: v3), which halves the build.
//   SAMFORMER_MAX_ISA=v4|v3|baseline lowers the choice. Capture by value ([=]), so that the compiler sees locals.
#pragma once

#include <omp.h>

#include <cstdint>
#include <type_traits>

namespace samformer::kernels {

enum class Isa { baseline, v3, v4 };

// The instruction set that kernels run with on this machine.
Isa isa();
// Its name, for people.
const char* isa_name();

// The vector registers that a body is compiled for: how many, and the bytes of one.
template <int bytes_, int registers_>
struct Target {
  static constexpr int bytes = bytes_, registers = registers_;
};

template <class Target, class Body>
inline void call(const Body& body, std::int64_t block) {
  if constexpr (std::is_invocable_v<const Body&, std::int64_t, Target>) {
    body(block, Target{});
  } else {
    body(block);
  }
}

// Never inlined: one copy serves the loop of one thread and the pool's, or a compiler that fuses multiplications and
// additions (ARM) might fuse other ones in each, and give other bits.
template <class Body>
__attribute__((noinline)) void run_baseline(const Body& body, std::int64_t block) {
  const Body local = body;
  call<Target<16, 16>>(local, block);
}

#if defined(__x86_64__) && !defined(SAMFORMER_BASELINE_ONLY)
#define SAMFORMER_TARGET(name) __attribute__((target(name), flatten, noinline))
template <class Body>
SAMFORMER_TARGET("arch=x86-64-v4")
void run_v4(const Body& body, std::int64_t block) {
  const Body local = body;
  call<Target<64, 32>>(local, block);
}
template <class Body>
SAMFORMER_TARGET("arch=x86-64-v3")
void run_v3(const Body& body, std::int64_t block) {
  const Body local = body;
  call<Target<32, 16>>(local, block);
}
#undef SAMFORMER_TARGET
template <class T, class Body>
void run_block(Isa level, const Body& body, std::int64_t block) {
  if (std::is_same_v<T, float> && level == Isa::v4) {
    if constexpr (std::is_same_v<T, float>) run_v4(body, block);
  } else if (std::is_floating_point_v<T> && level >= Isa::v3) {
    if constexpr (std::is_floating_point_v<T>) run_v3(body, block);
  } else {
    run_baseline(body, block);
  }
}
#else
template <class T, class Body>
void run_block(Isa, const Body& body, std::int64_t block) {
  run_baseline(body, block);
}
#endif

namespace detail {
// run(body, block) for every block, on up to `threads` threads.
void run_blocks(std::int64_t blocks, int threads, void (*run)(const void* body, std::int64_t block), const void* body);
}  // namespace detail

// Runs body(0) ... body(blocks - 1), each once, in any order and on any thread. Throws what a body has thrown.
template <class T, class Body>
void parallel_for(std::int64_t blocks, const Body& body) {
  const int threads = blocks <= 1 ? 1 : omp_get_max_threads();
  if (threads == 1) {
    const Isa level = isa();
    for (std::int64_t block = 0; block < blocks; ++block) run_block<T>(level, body, block);
    return;
  }
  detail::run_blocks(
      blocks, threads,
      [](const void* all, std::int64_t block) { run_block<T>(isa(), *static_cast<const Body*>(all), block); }, &body);
}

// Cuts `count` items into blocks of `size` (the last one shorter).
constexpr std::int64_t blocks_of(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

}  // namespace samformer::kernels
