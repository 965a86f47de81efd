// The SIMT emulator's scheduler and its memory checks; simt.h says what it finds.
#undef _FORTIFY_SOURCE  // its _longjmp takes another stack for a mistake
#include "kernels/simt/simt.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <exception>
#include <map>
#include <numeric>
#include <random>

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#endif
#endif
#ifdef SIMT_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace samformer::kernels::simt {
namespace {

#ifdef SIMT_ASAN
constexpr std::size_t stack_bytes = 256 * 1024;
#else
constexpr std::size_t stack_bytes = 64 * 1024;
#endif
constexpr int lanes = 32;

enum class State { runnable, at_block_barrier, at_warp_operation, finished };

struct Context {
  jmp_buf registers;
  ucontext_t first{};  // where it begins
  bool has_begun = true, is_idle = false;
  std::unique_ptr<std::byte[]> own_stack;
  void* fake_stack = nullptr;
  const void* stack = nullptr;
  std::size_t stack_size = 0;
};

// swapcontext saves the signal mask too: its system calls would be four fifths of the emulator's time. ucontext makes a
// stack the current one, once; from there on it is _setjmp and _longjmp.
// A switch tells AddressSanitizer which stack comes next; without it the sanitizer sees one broken stack.
void switch_context(Context& from, Context& to) {
#ifdef SIMT_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_size);
#endif
  if (_setjmp(from.registers) == 0) {
    if (std::exchange(to.has_begun, true)) _longjmp(to.registers, 1);
    setcontext(&to.first);
  }
#ifdef SIMT_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

struct Fiber {
  Context* context = nullptr;
  State state = State::finished;
  Dim3 thread;
  SourcePlace where;
  std::size_t warp_operations = 0;
};

struct Emulator {
  Options options;
  std::map<const std::byte*, Region*> regions;
  // The launch that runs:
  const char* kernel = nullptr;
  const std::function<void()>* body = nullptr;
  Place place;
  std::uint64_t launch = 0, epoch = 0;
  std::int32_t block = 0;
  int current = -1;
  std::vector<Fiber> fibers;
  std::vector<std::unique_ptr<Context>> contexts;  // they outlive a launch
  std::vector<std::uint32_t> warp_epochs;
  std::vector<LaneData> exchanged;  // two sets a warp: a fast lane may be one operation ahead
  std::map<const void*, std::unique_ptr<Region>> shared;
  std::unique_ptr<Region> dynamic;
  Context scheduler;
  std::exception_ptr failure;
};

Emulator& emulator() {
  static thread_local Emulator instance;
  return instance;
}

std::string text(const SourcePlace& where) {
  const std::string file = where.file;
  return file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(where.line);
}
std::string text(const Dim3& at) {
  return "(" + std::to_string(at.x) + "," + std::to_string(at.y) + "," + std::to_string(at.z) + ")";
}

// Runs one thread of a block after the other.
void fiber_entry() {
  Emulator& e = emulator();
#ifdef SIMT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &e.scheduler.stack, &e.scheduler.stack_size);
#endif
  for (;;) {
    try {
      (*e.body)();
    } catch (...) {
      e.failure = std::current_exception();
    }
    Fiber& self = e.fibers[static_cast<std::size_t>(e.current)];
    self.state = State::finished;
    self.context->is_idle = true;
    switch_context(*self.context, e.scheduler);
  }
}

// A context that a failure left within a kernel begins anew.
void start(Fiber& fiber, Context& context) {
  if (!context.own_stack) context.own_stack = std::make_unique_for_overwrite<std::byte[]>(stack_bytes);
  if (!std::exchange(context.is_idle, false)) {
    getcontext(&context.first);
    context.stack = context.first.uc_stack.ss_sp = context.own_stack.get();
    context.stack_size = context.first.uc_stack.ss_size = stack_bytes;
    context.first.uc_link = nullptr;
    context.fake_stack = nullptr;
    context.has_begun = false;
    makecontext(&context.first, fiber_entry, 0);
  }
  fiber.context = &context;
  fiber.state = State::runnable;
  fiber.warp_operations = 0;
}

void wait(State state, const SourcePlace& where) {
  Emulator& e = emulator();
  Fiber& self = e.fibers[static_cast<std::size_t>(e.current)];
  self.state = state;
  self.where = where;
  switch_context(*self.context, e.scheduler);
}

bool same_place(const SourcePlace& a, const SourcePlace& b) {
  return a.line == b.line && std::strcmp(a.file, b.file) == 0;
}

// All of [first, last) wait in this state at one place of the source.
bool together(const std::vector<Fiber>& fibers, std::size_t first, std::size_t last, State state) {
  return std::all_of(fibers.begin() + static_cast<std::ptrdiff_t>(first),
                     fibers.begin() + static_cast<std::ptrdiff_t>(last),
                     [&](const Fiber& f) { return f.state == state && same_place(f.where, fibers[first].where); });
}

void release(std::vector<Fiber>& fibers, std::size_t first, std::size_t last) {
  for (std::size_t i = first; i < last; ++i) fibers[i].state = State::runnable;
}

// Nothing can run: two threads that wait for different things, or for one that has gone.
[[noreturn]] void report_divergence(const Emulator& e) {
  const auto describe = [](const Fiber& f) {
    const std::string name = "thread " + text(f.thread);
    if (f.state == State::finished) return name + " has finished";
    return name + (f.state == State::at_block_barrier ? " waits at the barrier " : " waits at the warp operation ") +
           text(f.where);
  };
  const auto waiting =
      std::find_if(e.fibers.begin(), e.fibers.end(), [](const Fiber& f) { return f.state != State::finished; });
  const auto other = std::find_if(e.fibers.begin(), e.fibers.end(), [&](const Fiber& f) {
    return f.state != waiting->state || !same_place(f.where, waiting->where);
  });
  throw Fault(std::string(e.kernel) + ", block " + text(e.place.block) + ": divergent " +
              (waiting->state == State::at_block_barrier ? "barrier: " : "warp operation: ") + describe(*waiting) +
              ", " + describe(other == e.fibers.end() ? *waiting : *other));
}

void order_of(std::vector<std::size_t>& items, const Options& options, std::mt19937_64& random) {
  if (options.order == Order::reverse) std::reverse(items.begin(), items.end());
  if (options.order == Order::shuffled) std::shuffle(items.begin(), items.end(), random);
}

void run_block(Emulator& e, std::mt19937_64& random) {
  const std::size_t threads = e.fibers.size();
  for (std::size_t i = 0; i < threads; ++i) start(e.fibers[i], *e.contexts[i]);
  e.warp_epochs.assign(threads / lanes, 0);
  e.shared.clear();
  ++e.epoch;
  for (;;) {
    bool progress = false;
    std::vector<std::size_t> warps(threads / lanes);
    std::iota(warps.begin(), warps.end(), 0u);
    order_of(warps, e.options, random);
    for (const std::size_t warp : warps) {
      const std::size_t first = warp * lanes;
      std::vector<std::size_t> order(lanes);
      do {
        std::iota(order.begin(), order.end(), first);
        order_of(order, e.options, random);
        for (const std::size_t i : order) {
          if (e.fibers[i].state != State::runnable) continue;
          progress = true;
          e.current = static_cast<int>(i);
          e.place.thread = e.fibers[i].thread;
          switch_context(e.scheduler, *e.fibers[i].context);
          e.current = -1;
          if (e.failure) std::rethrow_exception(std::exchange(e.failure, nullptr));
        }
        if (!together(e.fibers, first, first + lanes, State::at_warp_operation)) break;
        release(e.fibers, first, first + lanes);
      } while (true);
    }
    if (together(e.fibers, 0, threads, State::at_block_barrier)) {
      ++e.epoch;
      release(e.fibers, 0, threads);
    } else if (!progress) {
      if (std::all_of(e.fibers.begin(), e.fibers.end(), [](const Fiber& f) { return f.state == State::finished; }))
        return;
      report_divergence(e);
    }
  }
}

}  // namespace

Options& options() { return emulator().options; }
Place& place() { return emulator().place; }

Region::Region(std::string region_name, std::size_t region_bytes, bool is_shared)
    : name(std::move(region_name)),
      bytes(region_bytes),
      shared(is_shared),
      memory(std::make_unique_for_overwrite<float[]>(std::max<std::size_t>(1, (region_bytes + 3) / 4))),
      words((region_bytes + 3) / 4) {
  // Unset memory reads as NaN even where a check is switched off by mistake.
  std::memset(memory.get(), 0xff, words.size() * 4);
  emulator().regions[begin()] = this;
}
Region::~Region() { emulator().regions.erase(begin()); }

Region* find_region(const void* address) {
  const auto& regions = emulator().regions;
  auto next = regions.upper_bound(static_cast<const std::byte*>(address));
  if (next == regions.begin()) return nullptr;
  Region* region = std::prev(next)->second;
  return static_cast<const std::byte*>(address) <= region->begin() + region->bytes ? region : nullptr;
}

void mark_set(void* address, std::size_t bytes, bool set) {
  Region* region = find_region(address);
  if (region == nullptr) throw Fault("a copy to memory that is in no device buffer");
  const std::size_t first = static_cast<std::size_t>(static_cast<std::byte*>(address) - region->begin());
  if (first + bytes > region->bytes) throw Fault("a copy past the end of " + region->name);
  for (std::size_t i = first / 4; i < (first + bytes + 3) / 4; ++i) region->words[i].set = set;
}

void submit(Stream stream, std::function<void()> work) {
  if (stream != nullptr && stream->capturing) {
    stream->work.push_back(std::move(work));
  } else {
    work();
  }
}

void touch_row(const float* row, std::size_t count, bool write) {
  Region* region = find_region(row);
  if (region == nullptr) throw Fault("a product's operand is in no device buffer");
  const auto first = static_cast<std::size_t>(reinterpret_cast<const std::byte*>(row) - region->begin()) / 4;
  if ((first + count) * 4 > region->bytes) throw Fault("a product reaches past the end of " + region->name);
  for (std::size_t i = first; i < first + count; ++i) {
    if (!write && !region->words[i].set) {
      throw Fault("a product reads unset memory: element " + std::to_string(i) + " of " + region->name);
    }
    region->words[i].set = true;
  }
}

void fault(const std::string& what) {
  const Emulator& e = emulator();
  std::string message = e.kernel ? e.kernel : "outside a kernel";
  if (e.current >= 0) message += ", block " + text(e.place.block) + ", thread " + text(e.place.thread);
  throw Fault(message + ": " + what);
}

void check_access(Region* region, const void* address, std::size_t bytes, std::size_t alignment, bool write) {
  const Emulator& e = emulator();
  if (region == nullptr) fault("access through a null pointer");
  const auto offset = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(address) -
                                                reinterpret_cast<std::uintptr_t>(region->begin()));
  const auto described = [&] {
    return std::string(write ? "write of " : "read of ") + std::to_string(bytes) + " bytes at byte " +
           std::to_string(offset) + " of " + region->name + " (" + std::to_string(region->bytes) + " bytes)";
  };
  if (offset < 0 || offset + static_cast<std::int64_t>(bytes) > static_cast<std::int64_t>(region->bytes))
    fault("out of bounds: " + described());
  if (static_cast<std::size_t>(offset) % alignment != 0) fault("misaligned " + described());
  const std::int32_t self = e.current;
  const std::int32_t warp = self / lanes;
  const std::uint32_t warp_epoch = e.warp_epochs[static_cast<std::size_t>(warp)];
  const auto last = (static_cast<std::size_t>(offset) + bytes + 3) / 4;
  for (auto i = static_cast<std::size_t>(offset) / 4; i < last; ++i) {
    Word& word = region->words[i];
    if (!write && !word.set) fault("read of unset memory: " + described());
    if (word.write_launch == e.launch) {
      if (word.write_block != e.block) fault("race between blocks: " + described() + ", written by another block");
      const bool ordered = word.writer == self || word.write_epoch != e.epoch ||
                           (word.writer / lanes == warp && word.write_warp_epoch < warp_epoch);
      if (!ordered) fault("race: " + described() + ", written by thread " + std::to_string(word.writer));
    }
    const bool read_here = word.read_launch == e.launch && word.read_block == e.block && word.read_epoch == e.epoch;
    if (write) {
      if (word.read_launch == e.launch && (word.read_by_blocks || word.read_block != e.block))
        fault("race between blocks: " + described() + ", read by another block");
      if (read_here) {
        const bool alone = word.reader == self && !word.read_by_lanes && !word.read_by_warps;
        const bool ordered =
            alone || (!word.read_by_warps && word.reader / lanes == warp && word.read_warp_epoch < warp_epoch);
        if (!ordered) fault("race: " + described() + ", read by thread " + std::to_string(word.reader));
      }
      word.write_launch = e.launch;
      word.write_epoch = e.epoch;
      word.write_warp_epoch = warp_epoch;
      word.writer = self;
      word.write_block = e.block;
      word.set = true;
    } else {
      if (word.read_launch != e.launch)
        word.read_by_blocks = false;
      else if (word.read_block != e.block)
        word.read_by_blocks = true;
      if (!read_here)
        word.read_by_lanes = word.read_by_warps = false;
      else if (word.reader / lanes != warp)
        word.read_by_warps = true;
      else if (word.reader != self)
        word.read_by_lanes = true;
      word.read_launch = e.launch;
      word.read_epoch = e.epoch;
      word.read_warp_epoch = warp_epoch;
      word.reader = self;
      word.read_block = e.block;
    }
  }
}

Region* shared_region(const void* site, std::size_t bytes) {
  std::unique_ptr<Region>& region = emulator().shared[site];
  if (!region) region = std::make_unique<Region>("static shared memory", bytes, true);
  return region.get();
}
Pointer<float> dynamic_shared() {
  Region* region = emulator().dynamic.get();
  return {region->memory.get(), region};
}

int shared_limit() { return 64 * 1024; }

void block_barrier(const SourcePlace& where) { wait(State::at_block_barrier, where); }

void warp_barrier(const SourcePlace& where) {
  // Each lane notes the barrier for its warp: the first one out does.
  Emulator& e = emulator();
  const auto warp = static_cast<std::size_t>(e.current / lanes);
  const std::uint32_t before = e.warp_epochs[warp];
  wait(State::at_warp_operation, where);
  e.warp_epochs[warp] = before + 1;
}

const LaneData* lane_exchange(const LaneData& mine, const SourcePlace& where) {
  Emulator& e = emulator();
  const auto self = static_cast<std::size_t>(e.current);
  const std::size_t set = e.fibers[self].warp_operations++ & 1u;
  const std::size_t base = (self / lanes * 2 + set) * lanes;
  e.exchanged[base + self % lanes] = mine;
  wait(State::at_warp_operation, where);
  return &e.exchanged[base];
}

void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], const SourcePlace& where) {
  LaneData mine{};
  std::memcpy(mine.value, a, sizeof(a));
  std::memcpy(mine.value + 4, b, sizeof(b));
  const int lane = static_cast<int>(threadIdx.x & 31u);
  const LaneData* all = lane_exchange(mine, where);
  const int group = lane >> 2;
  // d[i]: row group + 8 (i / 2), column 2 (lane % 4) + i % 2. a[i]: row group + 8 (i % 2), column lane % 4 + 4 (i / 2).
  // b[i]: row lane % 4 + 4 i, column group.
  for (int i = 0; i < 4; ++i) {
    const int column = 2 * (lane & 3) + (i & 1);
    for (int k = 0; k < 8; ++k)
      d[i] += all[group * 4 + (k & 3)].value[(i >> 1) + 2 * (k >> 2)] * all[column * 4 + (k & 3)].value[4 + (k >> 2)];
  }
}

void run(const char* kernel, Dim3 blocks, Dim3 threads, std::size_t shared_bytes, const std::function<void()>& thread) {
  Emulator& e = emulator();
  const std::size_t count = std::size_t{threads.x} * threads.y * threads.z;
  const std::string shape = std::string(kernel) + " <<<" + text(blocks) + ", " + text(threads) + ">>>: ";
  if (count == 0 || count > 1024 || count % lanes != 0) throw Fault(shape + "a block is 32..1024 threads, whole warps");
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0 || blocks.y > 65535 || blocks.z > 65535)
    throw Fault(shape + "no such grid");
  while (e.contexts.size() < count) e.contexts.push_back(std::make_unique<Context>());
  e.kernel = kernel;
  e.body = &thread;
  e.fibers.assign(count, Fiber{});
  e.exchanged.assign(count * 2, LaneData{});
  ++e.launch;
  for (std::size_t i = 0; i < count; ++i) {
    const auto index = static_cast<unsigned>(i);
    e.fibers[i].thread = {index % threads.x, index / threads.x % threads.y, index / (threads.x * threads.y)};
  }
  e.place.threads = threads;
  e.place.blocks = blocks;
  std::mt19937_64 random(e.options.seed);
  std::vector<std::size_t> order(std::size_t{blocks.x} * blocks.y * blocks.z);
  std::iota(order.begin(), order.end(), 0u);
  order_of(order, e.options, random);
  const auto clean_up = [&] {
    e.shared.clear();
    e.dynamic.reset();
    e.kernel = nullptr;
    e.current = -1;
  };
  try {
    for (const std::size_t index : order) {
      e.block = static_cast<std::int32_t>(index);
      e.place.block = {static_cast<unsigned>(index % blocks.x), static_cast<unsigned>(index / blocks.x % blocks.y),
                       static_cast<unsigned>(index / (std::size_t{blocks.x} * blocks.y))};
      e.dynamic = std::make_unique<Region>("dynamic shared memory", shared_bytes, true);
      run_block(e, random);
    }
  } catch (...) {
    clean_up();
    throw;
  }
  clean_up();
}

}  // namespace samformer::kernels::simt
