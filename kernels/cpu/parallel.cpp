#include "kernels/cpu/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace samformer::kernels {
namespace {

Isa detect() {
#if defined(__x86_64__)
  const char* limit = std::getenv("SAMFORMER_MAX_ISA");
  const std::string_view most = limit ? limit : "v4";
  if (most == "baseline") return Isa::baseline;
  if (most != "v3" && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd")) {
    return Isa::v4;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return Isa::v3;
#endif
  return Isa::baseline;
}

// Tells the core that this is a loop that waits.
inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until `value` is no longer `old`: spinning at first (most waits are over before a clock is read), then asleep.
template <class T>
void await_change(const std::atomic<T>& value, T old, std::chrono::microseconds spin) {
  const auto changes = [&](int looks) {
    for (int i = 0; i < looks; ++i) {
      if (value.load(std::memory_order_acquire) != old) return true;
      pause();
    }
    return false;
  };
  if (changes(64)) return;
  const auto begin = std::chrono::steady_clock::now();
  do {
    if (changes(16)) return;
  } while (std::chrono::steady_clock::now() - begin < spin);
  value.wait(old, std::memory_order_acquire);
}

class Pool {
 public:
  void run(std::int64_t blocks, int threads, void (*run)(const void*, std::int64_t), const void* body) {
    if (taken_.test_and_set(std::memory_order_acquire)) {
      for (std::int64_t block = 0; block < blocks; ++block) run(body, block);
      return;
    }
    threads = std::min(threads, most_threads);
    if (shares_.size() != static_cast<std::size_t>(threads)) resize(threads);
    blocks_ = blocks, run_ = run, body_ = body;
    for (int i = 0; i < threads; ++i) {
      shares_[static_cast<std::size_t>(i)].next.store(begin_of(i), std::memory_order_relaxed);
    }
    gate_.store(((gate_.load(std::memory_order_relaxed) | (generation - 1)) + 1) | open, std::memory_order_release);
    gate_.notify_all();
    work(0);
    // Every block has begun: nobody enters any more, who is inside finishes the block that it has.
    std::uint32_t gate = gate_.fetch_and(~open, std::memory_order_acq_rel) & ~open;
    for (; (gate & inside) != 0; gate = gate_.load(std::memory_order_acquire)) {
      await_change(gate_, gate, std::chrono::microseconds(50));
    }
    const std::exception_ptr failure = std::exchange(failure_, nullptr);
    taken_.clear(std::memory_order_release);
    if (failure) std::rethrow_exception(failure);
  }

 private:
  // gate_: how many workers are inside the region, whether more may enter, the end of the pool, the region's number.
  static constexpr std::uint32_t inside = 0xfff, open = 1 << 12, quit = 1 << 13, generation = 1 << 14;
  static constexpr int most_threads = inside;

  struct alignas(64) Share {
    std::atomic<std::int64_t> next = 0;
  };

  std::int64_t begin_of(int share) const { return share * blocks_ / static_cast<std::int64_t>(shares_.size()); }

  void stop() {
    gate_.store(quit);
    gate_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

  void resize(int threads) {
    stop();
    gate_.store(0);
    shares_ = std::vector<Share>(static_cast<std::size_t>(threads));
    started_ = 0;
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { serve(i); });
    // A thread's start allocates; after the first region nothing does.
    for (int now; (now = started_) != threads - 1;) started_.wait(now);
  }

  // Blocks of the own share first, then of the others'.
  void work(int own) {
    const int threads = static_cast<int>(shares_.size());
    for (int i = 0; i < threads; ++i) {
      const int share = (own + i) % threads;
      const std::int64_t end = begin_of(share + 1);
      std::atomic<std::int64_t>& next = shares_[static_cast<std::size_t>(share)].next;
      while (next.load(std::memory_order_relaxed) < end) {
        const std::int64_t block = next.fetch_add(1, std::memory_order_relaxed);
        if (block >= end) break;
        try {
          run_(body_, block);
        } catch (...) {
          const std::lock_guard lock(failing_);
          failure_ = std::current_exception();
        }
      }
    }
  }

  void serve(int own) {
    omp_set_num_threads(1);  // what a block calls is serial: a region, the library
    ++started_;
    started_.notify_one();
    std::uint32_t gate = gate_.load(std::memory_order_acquire), served = 0;
    while (gate != quit) {
      if ((gate & open) == 0 || gate / generation == served) {
        await_change(gate_, gate, std::chrono::microseconds(200));
        gate = gate_.load(std::memory_order_acquire);
      } else if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire)) {
        served = gate / generation;
        work(own);
        gate = gate_.fetch_sub(1, std::memory_order_acq_rel) - 1;
        if ((gate & (open | inside)) == 0) gate_.notify_all();  // its caller may be asleep
      }
    }
  }

  std::atomic_flag taken_;
  std::vector<std::thread> workers_;
  std::atomic<int> started_ = 0;
  std::vector<Share> shares_;  // one a thread
  alignas(64) std::atomic<std::uint32_t> gate_ = 0;
  // The region that is open.
  alignas(64) std::int64_t blocks_ = 0;
  void (*run_)(const void*, std::int64_t) = nullptr;
  const void* body_ = nullptr;
  std::mutex failing_;
  std::exception_ptr failure_;
};

}  // namespace

void detail::run_blocks(std::int64_t blocks, int threads, void (*run)(const void*, std::int64_t), const void* body) {
  // Never destroyed: where a library ends the process from a worker (libgomp without memory), nobody could wait for it.
  static Pool& pool = *new Pool;
  pool.run(blocks, threads, run, body);
}

Isa isa() {
  static const Isa level = detect();
  return level;
}

const char* isa_name() {
  switch (isa()) {
    case Isa::v4:
      return "x86-64-v4 (AVX-512)";
    case Isa::v3:
      return "x86-64-v3 (AVX2, FMA)";
    case Isa::baseline:
      break;
  }
  return "baseline";
}

}  // namespace samformer::kernels
