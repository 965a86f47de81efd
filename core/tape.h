// The reverse-mode tape: values in creation order, and for each how its gradient flows to its inputs.
//
//   Tape<float> tape(arena);
//   Var<float> loss = mse(linear(relu(linear(x, w1, b1)), w2, b2), y);     // ops.h
//   tape.backward(loss);                                                   // w1.gradient() ...
//
// Creation order is a topological order, so backward is one loop from the end: no recursion, no sorting, no ownership.
// A node is its value, its gradient and a function with its saved pointers, kept in the arena. Contract of gradients:
// backward() first sets every gradient to zero, then each node adds (+=) into its inputs' gradients. So values may be
// shared, unused ones have zero gradients, and calling backward() again gives the same numbers.
// The memory of values, gradients and saved data is the arena's: rewind it and clear() the tape together.
// T is float, double or Dual<double>; a Var is only valid until clear().
#pragma once

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

template <class T>
class Tape;

// A value on a tape.
template <class T>
struct Var {
  Tape<T>* tape = nullptr;
  std::int32_t index = -1;

  Tensor<T> value() const { return tape->value(*this); }
  Tensor<T> gradient() const { return tape->gradient(*this); }
  bool needs_gradient() const { return tape->needs_gradient(*this); }
  // What a kernel takes that can do without.
  T* gradient_or_null() const { return needs_gradient() ? gradient().data : nullptr; }
};

template <class T>
class Tape {
 public:
  explicit Tape(Arena& arena) : arena_(&arena) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  Arena& arena() { return *arena_; }
  std::size_t size() const { return nodes_.size(); }
  // Operations add what they cost, forward and backward; null: no more.
  void set_profile(Profile* profile) { profile_ = profile; }
  // Forgets every value (the caller rewinds the arena); keeps its own capacity.
  void clear() { nodes_.clear(); }

  // A value that is not differentiated.
  Var<T> constant(Tensor<T> value) { return push({value, {}, false, -1, nullptr, nullptr}); }
  // A value that is, with its gradient in the caller's memory (a slab) or, without one, in the arena.
  Var<T> leaf(Tensor<T> value, Tensor<T> gradient = {}) {
    SAMFORMER_CHECK(!gradient.data || gradient.shape == value.shape, "leaf: value {}, gradient {}",
                    value.shape.to_string(), gradient.shape.to_string());
    SAMFORMER_CHECK(value.contiguous() && gradient.contiguous(), "leaf: {} must be contiguous",
                    value.shape.to_string());
    return push({value, gradient, true, -1, nullptr, nullptr});
  }
  // The result of an operation. `backward(self)` adds into the inputs' gradients; it is copied into the arena, so it
  // holds plain data (views, sizes, Vars), and it is kept only where some input needs a gradient.
  template <class Backward>
  Var<T> record(Tensor<T> value, std::initializer_list<Var<T>> inputs, const Backward& backward) {
    static_assert(std::is_trivially_copyable_v<Backward> && std::is_trivially_destructible_v<Backward>);
    bool needed = false;
    for (const Var<T>& input : inputs) needed |= needs_gradient(input);
    Node node{value, {}, needed, -1, nullptr, nullptr};
    if (needed) attach(node, backward);
    return push(node);
  }
  // Part of another value (`part` of its memory): shares both memory and gradient with it.
  Var<T> alias(Var<T> whole, Tensor<T> part) {
    return push({part, {}, needs_gradient(whole), whole.index, nullptr, nullptr});
  }
  // As record, for an operation that wrote its result over `input` and passes the gradient through unchanged: value
  // and gradient are input's own (a constant's has none: then it is the node's). Nothing else may use `input`.
  template <class Backward>
  Var<T> record_in_place(Var<T> input, std::initializer_list<Var<T>> others, const Backward& backward) {
    bool needed = needs_gradient(input);
    for (const Var<T>& other : others) needed |= needs_gradient(other);
    Node node{value(input), {}, needed, needs_gradient(input) ? input.index : -1, nullptr, nullptr};
    if (needed) attach(node, backward);
    return push(node);
  }

  // Gradients of a scalar (one element) with respect to every value that needs one.
  void backward(Var<T> loss) {
    SAMFORMER_CHECK(value(loss).count() == 1, "backward: a scalar expected, found {}", value(loss).shape.to_string());
    T one = static_cast<T>(1);
    backward(loss, Tensor<T>(&one, value(loss).shape));
  }
  // The same for <seed, result>: a vector-Jacobian product.
  void backward(Var<T> result, Tensor<T> seed) {
    SAMFORMER_CHECK(needs_gradient(result), "backward: nothing that needs a gradient leads to this value");
    SAMFORMER_CHECK(seed.shape == value(result).shape, "backward: result {}, seed {}", value(result).shape.to_string(),
                    seed.shape.to_string());
    for (Node& node : nodes_) {
      if (!node.needs_gradient) continue;
      if (node.whole >= 0) {
        const Node& whole = nodes_[node.whole];
        node.gradient = Tensor<T>(whole.gradient.data + (node.value.data - whole.value.data), node.value.shape,
                                  whole.gradient.stride);
        continue;
      }
      if (!node.gradient.data) node.gradient = arena_->tensor<T>(node.value.shape);
      clear_rows(node.gradient);
    }
    const Tensor<T> top = gradient(result);
    for (std::int64_t r = 0; r < top.rows(); ++r) {
      for (std::int64_t c = 0; c < top.cols(); ++c) top(r, c) += seed(r, c);
    }
    for (std::size_t i = nodes_.size(); i-- > 0;) {
      const Node& node = nodes_[i];
      if (!node.run) continue;
      const Stopwatch watch(node.operation ? profile_ : nullptr, node.operation, node.backward_cost, "_backward");
      node.run(node.saved, {this, static_cast<std::int32_t>(i)});
    }
  }

  Tensor<T> value(Var<T> v) const { return nodes_[check(v)].value; }
  bool needs_gradient(Var<T> v) const { return nodes_[check(v)].needs_gradient; }
  // Valid after backward().
  Tensor<T> gradient(Var<T> v) const {
    const Node& node = nodes_[check(v)];
    SAMFORMER_CHECK(node.needs_gradient && node.gradient.data, "gradient: {} has none (a constant, or no backward yet)",
                    node.value.shape.to_string());
    return node.gradient;
  }

 private:
  struct Node {
    Tensor<T> value;
    Tensor<T> gradient;
    bool needs_gradient;
    std::int32_t whole;  // index of the value whose memory and gradient this one shares, or -1
    void (*run)(const void*, Var<T> self);
    const void* saved;
    const char* operation = nullptr;  // of a named operation
    Cost backward_cost = {};
  };

  template <class Backward>
  void attach(Node& node, const Backward& backward) {
    void* memory = arena_->allocate<Backward>(1);
    std::memcpy(memory, &backward, sizeof backward);
    node.saved = memory;
    node.run = [](const void* saved, Var<T> self) { (*static_cast<const Backward*>(saved))(self); };
  }
  static void clear_rows(Tensor<T> t) {
    kernels::for_rows<T>(t.rows(), t.cols(), [=](std::int64_t r) {
      std::memset(static_cast<void*>(t.row(r)), 0, static_cast<std::size_t>(t.cols()) * sizeof(T));
    });
  }
  Var<T> push(const Node& node) {
    nodes_.push_back(node);
    if (operation_ && node.run) {
      nodes_.back().operation = operation_;
      nodes_.back().backward_cost = backward_cost_;
    }
    return {this, static_cast<std::int32_t>(nodes_.size() - 1)};
  }
  std::size_t check(Var<T> v) const {
    SAMFORMER_CHECK(v.tape == this && v.index >= 0 && static_cast<std::size_t>(v.index) < nodes_.size(),
                    "a value of another tape, or from before clear()");
    return static_cast<std::size_t>(v.index);
  }

  template <class U>
  friend class Operation;

  Arena* arena_;
  std::vector<Node> nodes_;
  Profile* profile_ = nullptr;
  const char* operation_ = nullptr;  // that runs
  Cost backward_cost_;
};

// While it lives, what the tape records is this operation; its own time is the operation's forward.
template <class T>
class Operation {
 public:
  Operation(Tape<T>& tape, const char* name, Cost forward, Cost backward)
      : tape_(tape), watch_(tape.profile_, name, forward) {
    tape_.operation_ = name;
    tape_.backward_cost_ = backward;
  }
  ~Operation() { tape_.operation_ = nullptr; }

 private:
  Tape<T>& tape_;
  Stopwatch watch_;
};

}  // namespace samformer
