// The reverse-mode tape: values in creation order, and for each how its gradient flows to its inputs.
//
//   Tape<float> tape(arena);                                               // or Tape<float, Cuda> tape(arena, cuda)
//   Var<float> loss = mse(linear(relu(linear(x, w1, b1)), w2, b2), y);     // ops/ops.h
//   tape.backward(loss);                                                   // w1.gradient() ...
//
// Creation order is a topological order, so backward is one loop from the end: no recursion, no sorting, no ownership.
// A node is its value, its gradient and a function with its saved pointers. Contract of gradients: the first consumer
// of a value, in backward order, writes its part of the gradient, later ones add (Backward::into). So nothing is
// cleared first, values may be shared, and calling backward() again gives the same numbers. After backward() the
// gradients of leaves are valid, zero where nothing has led to them; an operation's own may have been handed on
// (Backward::pass). Values and gradients are the arena's, on the device where the tape computes: rewind it and clear()
// the tape together. T is float, double or Dual<double> on the Cpu, float on Cuda; a Var is only valid until clear().
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <type_traits>
#include <vector>

#include "core/arena.h"
#include "core/profile.h"
#include "core/tensor.h"
#include "kernels/elementwise.h"

namespace samformer {

template <class T, class On = Cpu>
class Tape;
template <class T, class On>
class Backward;

using kernels::Sink;

// A value on a tape; of no tape: there is none.
template <class T, class On = Cpu>
struct Var {
  Tape<T, On>* tape = nullptr;
  std::int32_t index = -1;

  explicit operator bool() const { return tape != nullptr; }
  Tensor<T> value() const { return tape->value(*this); }
  Tensor<T> gradient() const { return tape->gradient(*this); }
  bool needs_gradient() const { return tape && tape->needs_gradient(*this); }
};

template <class T, class On>
class Tape {
 public:
  explicit Tape(Arena<On>& arena, On on = {}) : arena_(&arena), timer_{on} {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  const On& on() const { return timer_.on; }
  Arena<On>& arena() { return *arena_; }
  // Of an operation's host-side data, until clear().
  Arena<>& host() { return host_; }
  std::size_t size() const { return nodes_.size(); }
  // Operations add what they cost, forward and backward, to its profile.
  Timer<On>& timer() { return timer_; }
  // Forgets every value (the caller rewinds the arena); keeps its own capacity.
  void clear() {
    nodes_.clear();
    host_.rewind({});
  }

  // A value that is not differentiated.
  Var<T, On> constant(Tensor<T> value) { return push({.value = value}); }
  // A value that is, with its gradient in the caller's memory (a slab) or, without one, in the arena. A gradient's
  // memory belongs to one leaf: asked for again, it is the same value.
  Var<T, On> leaf(Tensor<T> value, Tensor<T> gradient = {}) {
    SAMFORMER_CHECK(!gradient.data || gradient.shape == value.shape, "leaf: value {}, gradient {}",
                    value.shape.to_string(), gradient.shape.to_string());
    SAMFORMER_CHECK(value.contiguous() && gradient.contiguous(), "leaf: {} must be contiguous",
                    value.shape.to_string());
    for (std::size_t i = 0; gradient.data && i < nodes_.size(); ++i) {
      if (nodes_[i].own_memory || nodes_[i].gradient.data != gradient.data) continue;
      SAMFORMER_CHECK(nodes_[i].value.data == value.data && nodes_[i].value.shape == value.shape,
                      "leaf: one gradient for two values");
      return {this, static_cast<std::int32_t>(i)};
    }
    return push({.value = value, .gradient = gradient, .needs_gradient = true, .own_memory = gradient.data == nullptr});
  }
  // The result of an operation. `backward(Backward)` gives the inputs their parts; it is copied, so it holds plain data
  // (views, sizes, Vars), and it is kept only where some input needs a gradient.
  template <class F>
  Var<T, On> record(Tensor<T> value, std::initializer_list<Var<T, On>> inputs, const F& backward) {
    Node node{.value = value};
    for (const Var<T, On>& input : inputs) node.needs_gradient |= input && needs_gradient(input);
    if (node.needs_gradient) attach(node, backward);
    return push(node);
  }
  // Calls f in backward when all that will have been recorded from now on is done, whatever has led there.
  template <class F>
  void at_the_end(std::initializer_list<Var<T, On>> inputs, const F& f) {
    const Var<T, On> node = record({}, inputs, f);
    nodes_.back().always = nodes_[check(node)].needs_gradient;
  }
  // Part of another value: whole rows or whole columns [begin, end) of it. Shares memory and gradient with it.
  enum class Axis { rows, columns };
  Var<T, On> part(Var<T, On> whole, Axis axis, std::int64_t begin, std::int64_t end, Tensor<T> view) {
    const Node& from = nodes_[check(whole)];
    Node node{.value = view, .needs_gradient = from.needs_gradient, .root = root(whole.index)};
    const std::int64_t all = axis == Axis::rows ? from.value.rows() : from.value.cols();
    node.part = begin == 0 && end == all ? from.part : Part{axis, begin, end};
    if (node.part.axis == axis && from.part.end > 0 && !(begin == 0 && end == all)) {
      SAMFORMER_CHECK(from.part.axis == axis, "rows of columns, or columns of rows, of a value that needs a gradient");
      node.part = {axis, from.part.begin + begin, from.part.begin + end};
    }
    return push(node);
  }
  // The same elements in another shape, of a value without gaps: shares memory and gradient with it.
  Var<T, On> reshape(Var<T, On> x, Shape shape) {
    const Tensor<T> from = nodes_[check(x)].value;
    SAMFORMER_CHECK(from.contiguous() && shape.count() == from.count(), "reshape: {} to {}", from.shape.to_string(),
                    shape.to_string());
    nodes_[static_cast<std::size_t>(root(x.index))].keeps_layout = true;
    return part(x, Axis::rows, 0, from.rows(), Tensor<T>(from.data, shape));
  }
  // As record, for an operation that wrote its result over `input` and passes the gradient through unchanged: value
  // and gradient are input's own (a constant's has none: then it is the node's). Using `input` afterwards is an error.
  template <class F>
  Var<T, On> record_in_place(Var<T, On> input, std::initializer_list<Var<T, On>> others, const F& backward) {
    const Node& from = nodes_[check(input)];
    Node node{.value = from.value, .needs_gradient = from.needs_gradient};
    if (node.needs_gradient) node.root = root(input.index), node.part = from.part;
    for (const Var<T, On>& other : others) node.needs_gradient |= other && needs_gradient(other);
    if (node.needs_gradient) attach(node, backward);
    nodes_[check(input)].overwritten = true;
    return push(node);
  }

  // Gradients of a scalar (one element) with respect to every value that needs one.
  void backward(Var<T, On> loss) {
    SAMFORMER_CHECK(value(loss).count() == 1, "backward: a scalar expected, found {}", value(loss).shape.to_string());
    run_backward(loss, {});
  }
  // The same for <seed, result>: a vector-Jacobian product.
  void backward(Var<T, On> result, Tensor<T> seed) {
    SAMFORMER_CHECK(seed.shape == value(result).shape, "backward: result {}, seed {}", value(result).shape.to_string(),
                    seed.shape.to_string());
    run_backward(result, seed);
  }

  Tensor<T> value(Var<T, On> v) const {
    const Node& node = nodes_[check(v)];
    SAMFORMER_CHECK(!node.overwritten, "a value {} that an operation in place has overwritten: use its result",
                    node.value.shape.to_string());
    return node.value;
  }
  bool needs_gradient(Var<T, On> v) const { return nodes_[check(v)].needs_gradient; }
  // Valid after backward().
  Tensor<T> gradient(Var<T, On> v) const {
    const Node& node = nodes_[check(v)];
    const Node& owner = nodes_[static_cast<std::size_t>(root(v.index))];
    SAMFORMER_CHECK(node.needs_gradient && owner.gradient.data,
                    "gradient: {} has none (a constant, or no backward yet)", node.value.shape.to_string());
    return view(node, owner);
  }

 private:
  friend class Backward<T, On>;
  template <class U, class Device>
  friend class Operation;

  struct Part {  // of a root; end 0: all of it
    Axis axis = Axis::rows;
    std::int64_t begin = 0, end = 0;
  };
  struct Node {
    Tensor<T> value;
    Tensor<T> gradient = {};  // a root's
    bool needs_gradient = false;
    bool own_memory = true;  // of the gradient: the arena's, not the caller's
    bool overwritten = false;
    bool always = false;        // runs without a gradient
    bool keeps_layout = false;  // its gradient is read in other shapes too: it has the value's gaps
    bool written = false;       // all of the gradient holds something
    std::int32_t root = -1;     // whose gradient this one is a part of, or -1: it has its own
    std::int32_t shared = -1;   // nodes with the same number have one gradient memory (Backward::pass): that one's,
    Part shared_part = {};      // of which this one has a part
    Part part = {};
    void (*run)(const void*, Backward<T, On>&) = nullptr;
    const void* saved = nullptr;
    const char* operation = nullptr;
    Cost backward_cost = {};
  };
  struct Written {  // a part of a root that holds something while the whole does not
    std::int32_t root;
    Part part;
  };
  struct Later {  // scratch that is added or copied to a gradient when the operation's backward returns
    Tensor<T> to;
    const T* from;
    std::int64_t ld;
    bool add;
  };

  template <class F>
  void attach(Node& node, const F& backward) {
    static_assert(std::is_trivially_copyable_v<F> && std::is_trivially_destructible_v<F>);
    void* memory = host_.allocate<F>(1);
    std::memcpy(memory, &backward, sizeof backward);
    node.saved = memory;
    node.run = [](const void* saved, Backward<T, On>& g) { (*static_cast<const F*>(saved))(g); };
    node.operation = operation_;
    node.backward_cost = backward_cost_;
  }
  Var<T, On> push(const Node& node) {
    nodes_.push_back(node);
    return {this, static_cast<std::int32_t>(nodes_.size() - 1)};
  }
  std::int32_t root(std::int32_t index) const {
    const std::int32_t r = nodes_[static_cast<std::size_t>(index)].root;
    return r < 0 ? index : r;
  }
  std::size_t check(Var<T, On> v) const {
    SAMFORMER_CHECK(v.tape == this && v.index >= 0 && static_cast<std::size_t>(v.index) < nodes_.size(),
                    "a value of another tape, or from before clear()");
    return static_cast<std::size_t>(v.index);
  }
  Node& owner_of(std::int32_t index) { return nodes_[static_cast<std::size_t>(root(index))]; }

  // A node's own part of its root's gradient, which lies as the value does.
  static Tensor<T> view(const Node& node, const Node& owner) {
    const std::int64_t stride = owner.gradient.stride == owner.value.stride ? node.value.stride : owner.gradient.stride;
    const std::int64_t skipped =
        node.part.axis == Axis::rows ? node.part.begin * owner.gradient.stride : node.part.begin;
    return {owner.gradient.data + skipped, node.value.shape, stride};
  }
  static Tensor<T> region(const Tensor<T>& whole, Part part) {
    const Tensor<T> matrix(whole.data, Shape{whole.rows(), whole.cols()}, whole.stride);
    return part.axis == Axis::rows ? matrix.slice(part.begin, part.end - part.begin)
                                   : matrix.columns(part.begin, part.end - part.begin);
  }
  void ensure_memory(Node& owner) {
    if (!owner.gradient.data) owner.gradient = arena_->template tensor<T>(owner.value.shape, owner.value.stride);
  }
  void clear(Tensor<T> t) { kernels::clear(on(), t.data, t.stride, t.rows(), t.cols()); }

  // Clears what no consumer has written of the part of a root; afterwards it counts as written.
  void complete(std::int32_t index, Part part) {
    Node& owner = nodes_[static_cast<std::size_t>(index)];
    if (owner.written) return;
    ensure_memory(owner);
    for (const Written& w : written_) {
      SAMFORMER_CHECK(w.root != index || part.end == 0 || w.part.axis == part.axis,
                      "a gradient of which both rows and columns were written");
    }
    const bool whole = part.end == 0;
    if (whole) part = {written_axis(index), 0, 0}, part.end = extent(owner, part.axis);
    for (std::int64_t at = part.begin; at < part.end;) {
      std::int64_t next = part.end, skip = at;
      for (const Written& w : written_) {
        if (w.root != index || w.part.axis != part.axis) continue;
        if (w.part.begin <= at && w.part.end > at) skip = std::max(skip, w.part.end);
        if (w.part.begin > at) next = std::min(next, w.part.begin);
      }
      if (skip == at) clear(region(owner.gradient, {part.axis, at, next})), skip = next;
      at = skip;
    }
    if (whole) owner.written = true;
    if (!whole) written_.push_back({index, part});
  }
  Axis written_axis(std::int32_t index) const {
    for (const Written& w : written_) {
      if (w.root == index) return w.part.axis;
    }
    return Axis::rows;
  }
  static std::int64_t extent(const Node& owner, Axis axis) {
    return axis == Axis::rows ? owner.value.rows() : owner.value.cols();
  }
  // Whether something of the part of a root has been written.
  bool touched(std::int32_t index, Part part) const {
    if (nodes_[static_cast<std::size_t>(index)].written) return true;
    return std::any_of(written_.begin(), written_.end(), [&](const Written& w) {
      return w.root == index &&
             (part.end == 0 || w.part.axis != part.axis || (w.part.begin < part.end && part.begin < w.part.end));
    });
  }
  static bool overlap(Part a, Part b) {
    return a.end == 0 || b.end == 0 || a.axis != b.axis || (a.begin < b.end && b.begin < a.end);
  }
  // Whether another node still reads what this root would write of its gradient while node `at` runs: that one, an
  // earlier one, or a leaf, whose gradient stays.
  bool is_read(std::int32_t index, Part part, std::int32_t at) const {
    const Node& own = nodes_[static_cast<std::size_t>(index)];
    if (own.shared < 0) return false;
    const Part here = own.shared == index ? part : own.shared_part;
    for (std::int32_t i = 0; i < static_cast<std::int32_t>(nodes_.size()); ++i) {
      const Node& other = nodes_[static_cast<std::size_t>(i)];
      if (i > at && other.run) continue;
      if (i != index && other.shared == own.shared && overlap(here, i == own.shared ? Part{} : other.shared_part)) {
        return true;
      }
    }
    return false;
  }
  // Memory of its own for a root, if others still read what it is about to write.
  void detach(std::int32_t index, Part part, std::int32_t at) {
    if (!is_read(index, part, at)) return;
    Node& owner = nodes_[static_cast<std::size_t>(index)];
    const Tensor<T> from = owner.gradient;
    owner.gradient = arena_->template tensor<T>(from.shape, owner.value.stride);
    const auto copy = [&](Tensor<T> to, Tensor<T> old) {
      kernels::copy(on(), to.data, to.stride, old.data, old.stride, to.rows(), to.cols());
    };
    if (owner.written) copy(owner.gradient, from);
    for (const Written& w : written_) {
      if (w.root == index && !owner.written) copy(region(owner.gradient, w.part), region(from, w.part));
    }
    owner.shared = -1;
  }

  void run_backward(Var<T, On> result, Tensor<T> seed) {
    SAMFORMER_CHECK(needs_gradient(result), "backward: nothing that needs a gradient leads to this value");
    written_.clear();
    later_.clear();
    scratch_.rewind({});
    for (Node& node : nodes_) {
      node.written = false;
      node.shared = -1;
      if (node.own_memory) node.gradient = {};
    }
    first_ = result.index;
    seed_ = seed;
    // What does not write its own gradient would not ask for the seed: a leaf, a part, a result in place.
    const Node& last = nodes_[static_cast<std::size_t>(first_)];
    if (!last.run || last.root >= 0) Backward<T, On>(*this, first_).self();
    for (std::int32_t i = result.index; i >= 0; --i) {
      const Node node = nodes_[static_cast<std::size_t>(i)];
      const bool runs = node.always || i == first_ || (node.run && touched(root(i), node.part));
      if (!node.run || !runs) continue;
      const Stopwatch<On> watch(node.operation ? timer_ : silent_, node.operation ? node.operation : "",
                                node.backward_cost, "_backward");
      if (i != first_ && !node.always) complete(root(i), node.part);
      Backward<T, On> g(*this, i);
      node.run(node.saved, g);
      for (const Later& l : later_) {
        if (l.add) kernels::add(on(), l.to.data, l.to.stride, l.from, l.ld, l.to.rows(), l.to.cols());
        if (!l.add) kernels::copy(on(), l.to.data, l.to.stride, l.from, l.ld, l.to.rows(), l.to.cols());
      }
      later_.clear();
      scratch_.rewind({});
    }
    for (std::int32_t i = 0; i < static_cast<std::int32_t>(nodes_.size()); ++i) {
      const Node& node = nodes_[static_cast<std::size_t>(i)];
      if (node.needs_gradient && !node.run && node.root < 0) complete(i, {});
    }
  }

  Arena<On>* arena_;
  Arena<On> scratch_;
  Arena<> host_;
  std::vector<Node> nodes_;
  std::vector<Written> written_;
  std::vector<Later> later_;
  std::int32_t first_ = -1;  // where backward began, and with what
  Tensor<T> seed_;
  Timer<On> timer_, silent_{timer_.on};
  const char* operation_ = nullptr;  // that runs
  Cost backward_cost_ = {};
};

// What a node's backward works with.
template <class T, class On>
class Backward {
 public:
  Backward(Tape<T, On>& tape, std::int32_t index) : tape_(tape), index_(index) {}

  const On& on() const { return tape_.on(); }
  // Backward began here, from a scalar: the gradient of the result is 1.
  bool begins() const { return index_ == tape_.first_ && !tape_.seed_.data; }
  // The gradient of the result.
  Tensor<T> self() {
    const auto& node = tape_.nodes_[static_cast<std::size_t>(index_)];
    auto& owner = tape_.owner_of(index_);
    if (index_ == tape_.first_ && !tape_.touched(tape_.root(index_), node.part)) seed();
    return tape_.view(node, owner);
  }
  // The same without gaps between its rows: what was handed on lies as in the value that it is of.
  Tensor<T> self_dense() {
    const Tensor<T> from = self();
    if (from.contiguous()) return from;
    auto& owner = tape_.owner_of(index_);
    owner.gradient = tape_.arena_->template tensor<T>(owner.value.shape);
    owner.shared = -1;
    copy(on(), {owner.gradient.data, owner.gradient.stride}, from);
    return self();
  }
  // The same, to be scaled or overwritten.
  Tensor<T> self_in_place() {
    self_dense();
    tape_.detach(tape_.root(index_), {}, index_);
    return self();
  }
  // Where the part of an input's gradient goes; null where none is wanted. Once an operation for each input.
  Sink<T> into(Var<T, On> x) {
    if (!x.needs_gradient()) return {};
    const auto part = tape_.nodes_[static_cast<std::size_t>(x.index)].part;
    const std::int32_t root = tape_.root(x.index);
    auto& owner = tape_.nodes_[static_cast<std::size_t>(root)];
    tape_.detach(root, part, index_);
    tape_.ensure_memory(owner);
    const Tensor<T> to = tape_.view(tape_.nodes_[static_cast<std::size_t>(x.index)], owner);
    if (!tape_.touched(root, part)) {
      if (part.end == 0) {
        owner.written = true;
      } else {
        tape_.written_.push_back({root, part});
      }
      return {to.data, to.stride, false};
    }
    tape_.complete(root, part);
    return {to.data, to.stride, true};
  }
  // The same for kernels that need some memory: scratch where none is wanted.
  Sink<T> into_or_scratch(Var<T, On> x, std::int64_t rows, std::int64_t columns) {
    const Sink<T> to = into(x);
    return to ? to : Sink<T>{scratch(rows * columns), columns, false};
  }
  // The same for kernels that only write: scratch too where there is a part already.
  Sink<T> write(Var<T, On> x, std::int64_t rows, std::int64_t columns) {
    const Sink<T> to = into(x);
    if (to && !to.add) return to;
    T* const memory = scratch(rows * columns);
    give_later(x, to, memory, columns);
    return {memory, columns, false};
  }
  // What into(x) was for: `from`, which is there when the operation's backward returns.
  void give_later(Var<T, On> x, Sink<T> to, const T* from, std::int64_t ld) {
    if (!to) return;
    const Shape shape = tape_.nodes_[static_cast<std::size_t>(x.index)].value.shape;
    tape_.later_.push_back({Tensor<T>(to.data, Shape{shape.rows(), shape.cols()}, to.ld), from, ld, to.add});
  }
  // For kernels that only add.
  T* onto(Var<T, On> x) {
    const Sink<T> to = into(x);
    if (to && !to.add) tape_.clear(tape_.gradient(x));
    return to.data;
  }
  // The result's gradient is the input's part as it is: y = x + ... No copy where x has none yet.
  void pass(Var<T, On> x) {
    if (!x.needs_gradient()) return;
    auto& input = tape_.nodes_[static_cast<std::size_t>(x.index)];
    const Tensor<T> from = self();
    const bool fits = !input.keeps_layout || from.stride == input.value.stride;
    if (input.root < 0 && input.own_memory && fits && !tape_.touched(x.index, {})) {
      const std::int32_t root = tape_.root(index_);
      auto& owner = tape_.nodes_[static_cast<std::size_t>(root)];
      if (owner.shared < 0) owner.shared = root;
      input.shared_part =
          owner.shared == root ? tape_.nodes_[static_cast<std::size_t>(index_)].part : owner.shared_part;
      input.gradient = Tensor<T>(from.data, input.value.shape, from.stride);
      input.written = true;
      input.shared = owner.shared;
      return;
    }
    const Sink<T> to = into(x);
    (to.add ? add : copy)(on(), to, from);
  }
  // Memory until the operation's backward returns.
  template <class U = T>
  U* scratch(std::int64_t count) {
    return tape_.scratch_.template allocate<U>(count);
  }

 private:
  static void add(const On& on, Sink<T> to, Tensor<T> from) {
    kernels::add(on, to.data, to.ld, from.data, from.stride, from.rows(), from.cols());
  }
  static void copy(const On& on, Sink<T> to, Tensor<T> from) {
    kernels::copy(on, to.data, to.ld, from.data, from.stride, from.rows(), from.cols());
  }
  void seed() {
    const Sink<T> to = into({&tape_, index_});
    if (tape_.seed_.data) return copy(on(), to, tape_.seed_);
    if constexpr (std::is_same_v<On, Cpu>) {
      *to.data = static_cast<T>(1);
    } else {
      static const float one = 1;
      kernels::upload(to.data, &one, sizeof one, on().stream);
    }
  }

  Tape<T, On>& tape_;
  std::int32_t index_;
};

// While it lives, what the tape records is this operation; its own time is the operation's forward.
template <class T, class On>
class Operation {
 public:
  Operation(Tape<T, On>& tape, const char* name, Cost forward, Cost backward)
      : tape_(tape), watch_(tape.timer_, name, forward) {
    tape_.operation_ = name;
    tape_.backward_cost_ = backward;
  }
  ~Operation() {
    tape_.operation_ = nullptr;
    tape_.scratch_.rewind({});
  }
  const On& on() const { return tape_.on(); }
  Tensor<T> output(Shape shape, std::int64_t stride = 0) { return tape_.arena().template tensor<T>(shape, stride); }
  // What backward will need; `count` 0: null.
  template <class U = T>
  U* saved(std::int64_t count) {
    return count > 0 ? tape_.arena().template allocate<U>(count) : nullptr;
  }
  // Memory until the operation's forward returns.
  template <class U = T>
  U* scratch(std::int64_t count) {
    return count > 0 ? tape_.scratch_.template allocate<U>(count) : nullptr;
  }

 private:
  Tape<T, On>& tape_;
  Stopwatch<On> watch_;
};

// For explicit instantiation: X(T, On) for every tape there is. SAMFORMER_NO_DEVICE: a build without any kernels for
// Cuda.
#ifdef SAMFORMER_NO_DEVICE
#define SAMFORMER_FOR_EACH_TAPE(X) X(float, Cpu) X(double, Cpu) X(Dual<double>, Cpu)
#else
#define SAMFORMER_FOR_EACH_TAPE(X) X(float, Cpu) X(double, Cpu) X(Dual<double>, Cpu) X(float, Cuda)
#endif

}  // namespace samformer
