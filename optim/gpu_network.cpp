#include "optim/gpu_network.h"

#include <algorithm>
#include <functional>
#include <string>
#include <variant>

namespace samformer::optim {
inline namespace SAMFORMER_GPU_BACKEND {

namespace gpu = kernels::gpu;
using std::int64_t;

DeviceEvent Queue::event() const {
  DeviceEvent e(gpu::event_create());
  gpu::event_record(e.get(), stream());
  return e;
}

void Queue::collect_times() {
  for (const Timed& t : times_) {
    profile_->entries.push_back({t.name, gpu::event_seconds(times_.front().begin.get(), t.begin.get()),
                                 gpu::event_seconds(t.begin.get(), t.end.get()), t.cost});
  }
  times_.clear();
}

namespace {

constexpr int64_t tensor_core_channels = 64;  // fewer do not fill attention's tiles of 16 x 8
constexpr int64_t product_channels = 64;      // from so many on, wide values are better multiplied by the library

int narrow(int64_t x) { return static_cast<int>(x); }
int64_t row_sum_count(int64_t windows, int64_t D, int slots) {
  return 2 * slots * windows * gpu::channel_stride(narrow(D));
}

// Channel attention: one fused kernel, on tensor cores where they are asked for, or by products.
class Attention {
 public:
  // For up to `windows` windows; allocate(floats, name) gives memory that outlives this object.
  template <class Allocate>
  Attention(Queue& queue, int64_t D, gpu::Widths widths, bool tensor_cores, int64_t windows, bool backward,
            const Allocate& allocate)
      : queue_(queue),
        D_(D),
        widths_(widths),
        tensor_cores_(tensor_cores && D >= tensor_core_channels && gpu::attention_tf32_supports(widths)),
        products_(!tensor_cores_ &&
                  (widths.key > gpu::attention_widest_key || (widths.value > 16 && D >= product_channels))) {
    if (!products_) {
      lse_ = allocate(windows * D, "the attention's log-sum-exp");
      return;
    }
    const auto [operands, probabilities] = gpu::AttentionMemory::floats(windows, D, widths);
    memory_.operands = allocate(operands, "the attention's operands");
    memory_.probabilities = allocate(probabilities, "the attention's probabilities");
    memory_.gradients = backward ? allocate(probabilities, "the gradients of the attention's probabilities") : nullptr;
  }
  void forward(float* c, int64_t ldc, const gpu::Projected& in, int N) const {
    queue_.operation("attention", cost(N, false), [&] {
      if (products_) {
        gpu::attention_forward_products(queue_.blas(), memory_, c, ldc, in, N, narrow(D_), widths_, queue_.stream());
      } else {
        (tensor_cores_ ? gpu::attention_forward_tf32 : gpu::attention_forward)(c, ldc, lse_, in, N, narrow(D_), widths_,
                                                                               queue_.stream());
      }
    });
  }
  void backward(float* dz, float* row_sums, const float* dc, const float* c, int64_t ldc, const gpu::Projected& in,
                int N) const {
    queue_.operation("attention_backward", cost(N, true), [&] {
      if (products_) {
        gpu::attention_backward_products(queue_.blas(), memory_, dz, row_sums, dc, ldc, in, N, narrow(D_), widths_,
                                         queue_.stream());
      } else {
        (tensor_cores_ ? gpu::attention_backward_tf32 : gpu::attention_backward)(dz, row_sums, dc, c, ldc, lse_, in, N,
                                                                                 narrow(D_), widths_, queue_.stream());
      }
    });
  }

 private:
  Cost cost(int64_t N, bool backward) const {
    const int64_t all = N * D_ * D_, rows = N * D_, key = widths_.key, value = widths_.value;
    return backward ? float_cost(all * (6 * key + 4 * value + 5), rows * (6 * key + 5 * value + 1))
                    : float_cost(all * (2 * key + 2 * value + 4), rows * (2 * key + 2 * value + 1));
  }
  Queue& queue_;
  const int64_t D_;
  const gpu::Widths widths_;
  const bool tensor_cores_, products_;
  float* lse_ = nullptr;
  gpu::AttentionMemory memory_{};
};

// ---- SAMformer -----------------------------------------------------------------------------------------------------
//
// A pass, low-rank (G = W W_O, z = F + C G'):      full (G = W W_V, values are G xhat', z = F + C):
//   G, sums of weights                               G, W b_V, sums of weights
//   P = xhat Wcat'                                   P = xhat [G | W_Q W_K W]'
//   C = attention; C G'; loss, dz                    C = attention; loss, dz, which is dC
//   dC = dz G; dQ dK dV; dG = dz' C                  dQ dK dV
//   dP; dWcat = dP' xhat                             dP; dG, dW_Q dW_K dW = dP' xhat
//   dW += dG W_O'; dW_O = W' dG; db_O = W' db_W      dW += dG W_V'; dW_V = W' dG; db_V = W' r
// 17 kernels each (attention by products has four forward and six backward for one); a SAM step adds RevIN and its
// batch moments. `full` folds W_V whatever the shapes.

// Sizes of the model and where its parameters lie in a slab.
struct Layout {
  int64_t D, L, H, d_m;
  bool low_rank;
  gpu::Widths widths;
  int64_t ld;  // of P, dz and dP: columns, rounded up to whole 16-byte vectors
  int64_t value, query, head, value_bias, query_bias, key_bias, head_bias, output = 0, output_bias = 0, gamma, beta;

  explicit Layout(const model::Samformer& model)
      : D(model.shape().D),
        L(model.shape().L),
        H(model.shape().H),
        d_m(model.shape().d_m),
        low_rank(model.shape().value == model::Value::low_rank),
        widths{static_cast<int>(low_rank ? d_m : H), static_cast<int>(d_m), static_cast<int>(H)},
        ld((widths.columns() + 3) / 4 * 4) {
    const auto at = [&](const char* name) { return model.parameters().find(name).offset; };
    value = at("compute_values.weight");
    query = at("compute_queries.weight");
    head = at("linear_forecaster.weight");
    value_bias = at("compute_values.bias");
    query_bias = at("compute_queries.bias");
    key_bias = at("compute_keys.bias");
    head_bias = at("linear_forecaster.bias");
    if (low_rank) {
      output = at("output_projection.weight");
      output_bias = at("output_projection.bias");
    }
    gamma = at("revin.affine_weight");
    beta = at("revin.affine_bias");
  }
  int64_t columns() const { return widths.columns(); }
  // Columns of P that do not come from folded weights.
  int64_t rest() const { return low_rank ? columns() : columns() - H; }
};

class SamformerNetwork final : public Network {
 public:
  SamformerNetwork(const model::Samformer& model, Queue& queue, bool tensor_cores, float* weights, float* gradients,
                   int64_t windows)
      : m_(model),
        queue_(queue),
        weights_(weights),
        gradients_(gradients),
        attention_(
            queue, m_.D, m_.widths, tensor_cores, windows, gradients != nullptr,
            [this](int64_t floats, const char* name) { return attention_memory_.emplace_back(floats, name).data(); }) {
    const int64_t R = windows * m_.D;
    sums_ = {m_.columns(), "row sums of the weights"};
    biases_ = {m_.columns(), "biases"};
    p_ = {R * m_.ld, "the projection"};
    c_ = {R * (m_.low_rank ? m_.d_m : m_.ld), "the attention's context"};
    if (m_.low_rank) mixed_ = {R * m_.H, "the context's forecast"};
    folded_ = {m_.H * (m_.low_rank ? m_.d_m : m_.L), "folded weights"};
    if (!m_.low_rank) folded_bias_ = {m_.H, "the folded bias"};
    if (gradients == nullptr) return;
    dz_ = {R * m_.ld, "dZ"};
    dp_ = {R * m_.ld, "dP"};
    if (m_.low_rank) dc_ = {R * m_.d_m, "dC"};
    row_sums_ = {row_sum_count(windows, m_.D, gpu::row_sum_slots), "row sums"};
    column_parts_ = {2 * gpu::projection_chunks(narrow(R)) * m_.columns(), "column sums"};
    d_folded_ = {folded_.count(), "the gradient of the folded weights"};
    if (!m_.low_rank) d_folded_bias_ = {m_.H, "the gradient of the folded bias"};
  }

  void fold() override {
    const auto& [D, L, H, d_m, low_rank, widths, ld, value, query, head, value_bias, query_bias, key_bias, head_bias,
                 output, output_bias, gamma, beta] = m_;
    const float* const x = weights_;
    gpu::WeightRows rows{x + value, x + query};
    gpu::Biases biases{x + value_bias, x + query_bias, x + key_bias, nullptr, x + head_bias};
    if (low_rank) {
      queue_.multiply("G", {false, false, H, d_m, L, x + head, L, x + output, d_m, folded_.data(), d_m});
      biases.output = x + output_bias;
    } else {
      queue_.multiply("G", {false, false, H, L, L, x + head, L, x + value, L, folded_.data(), L});
      queue_.multiply("G", {false, false, H, 1, L, x + head, L, x + value_bias, 1, folded_bias_.data(), 1});
      rows.value = folded_.data();
      biases.value = folded_bias_.data();
    }
    const int64_t O = m_.columns();
    queue_.operation("weight_sums", float_cost(O * L + 2 * H * L, O * L + 2 * O + L), [&, L = L, widths = widths] {
      gpu::weight_sums(sums_.data(), biases_.data(), rows, biases, widths, narrow(L), queue_.stream());
    });
  }

  Forecast forward(const float* x, int N, const TrainingPass*) override {
    const int64_t R = N * m_.D;
    if (m_.low_rank) {
      queue_.multiply("projection",
                      {false, true, R, m_.columns(), m_.L, x, m_.L, weights_ + m_.value, m_.L, p_.data(), m_.ld});
    } else {
      queue_.multiply("projection", {false, true, R, m_.H, m_.L, x, m_.L, folded_.data(), m_.L, p_.data(), m_.ld});
      queue_.multiply("projection",
                      {false, true, R, m_.rest(), m_.L, x, m_.L, weights_ + m_.query, m_.L, p_.data() + m_.H, m_.ld});
    }
    attention_.forward(c_.data(), context_stride(), projected(), N);
    if (m_.low_rank) {
      queue_.multiply("head",
                      {false, true, R, m_.H, m_.d_m, c_.data(), m_.d_m, folded_.data(), m_.d_m, mixed_.data(), m_.H});
    }
    Forecast z;
    z.in = projected();
    z.mixed = m_.low_rank ? mixed_.data() : c_.data();
    z.mixed_ld = m_.low_rank ? m_.H : m_.ld;
    z.widths = m_.widths;
    z.guard = m_.low_rank ? 0.0f : 1e-10f;
    if (gradients_ != nullptr) z.dz = dz_.data() + m_.widths.first_head(), z.ldz = m_.ld, z.row_sums = row_sums_.data();
    return z;
  }

  void backward(const float* xhat, int N, const float* loss_parts, const TrainingPass& pass) override {
    const Layout& m = m_;
    const int64_t R = N * m.D, O = m.columns();
    const int channels = narrow(m.D), L = narrow(m.L);
    const float* const x = weights_;
    float* const g = gradients_;
    float* const dz = dz_.data() + m.widths.first_head();
    const float* dc = dz;
    if (m.low_rank) {
      queue_.multiply("head_backward",
                      {false, false, R, m.d_m, m.H, dz, m.ld, folded_.data(), m.d_m, dc_.data(), m.d_m});
      dc = dc_.data();
    }
    attention_.backward(dz_.data(), row_sums_.data(), dc, c_.data(), context_stride(), projected(), N);
    if (m.low_rank) {
      queue_.multiply("head_backward",
                      {true, false, m.H, m.d_m, R, dz, m.ld, c_.data(), m.d_m, d_folded_.data(), m.d_m});
    }
    queue_.operation("projection_scale", float_cost(4 * R * O, 2 * R * O), [&] {
      gpu::projection_backward(dp_.data(), column_parts_.data(), dz_.data(), m.ld, x + m.gamma, x + m.beta, N, channels,
                               narrow(O), queue_.stream());
    });
    gpu::Gradients out{g + m.value,     g + m.query, g + m.value_bias, g + m.query_bias,
                       g + m.head_bias, g + m.gamma, g + m.beta};
    if (m.low_rank) {
      queue_.multiply("projection_backward", {true, false, O, m.L, R, dp_.data(), m.ld, xhat, m.L, g + m.value, m.L});
    } else {
      queue_.multiply("projection_backward",
                      {true, false, m.H, m.L, R, dp_.data(), m.ld, xhat, m.L, d_folded_.data(), m.L});
      queue_.multiply("projection_backward",
                      {true, false, m.rest(), m.L, R, dp_.data() + m.H, m.ld, xhat, m.L, g + m.query, m.L});
      out.value_rows = d_folded_.data();
      out.value = d_folded_bias_.data();
    }
    queue_.operation("finish_gradients", float_cost(2 * O * m.L, 2 * O * m.L), [&] {
      gpu::finish_gradients(out, pass.progress, column_parts_.data(), row_sums_.data(), gpu::row_sum_slots, loss_parts,
                            m.low_rank ? gpu::Folded::output_bias : gpu::Folded::value_bias,
                            x + (m.low_rank ? m.output_bias : m.value_bias), N, channels, m.widths, L, pass.number,
                            queue_.stream());
    });
    const int64_t inner = m.low_rank ? m.d_m : m.L;  // W_O or W_V: [L][inner]
    const int64_t folded = m.low_rank ? m.output : m.value, bias = m.low_rank ? m.output_bias : m.value_bias;
    const float *const dG = d_folded_.data(), *const r_bias = m.low_rank ? g + m.head_bias : d_folded_bias_.data();
    queue_.multiply("G_backward", {false, true, m.H, m.L, inner, dG, inner, x + folded, inner, g + m.head, m.L, true});
    queue_.multiply("G_backward", {true, false, m.L, inner, m.H, x + m.head, m.L, dG, inner, g + folded, inner});
    queue_.multiply("G_backward", {true, false, m.L, 1, m.H, x + m.head, m.L, r_bias, 1, g + bias, 1});
  }

 private:
  gpu::Projected projected() const {
    return {p_.data(), m_.ld, weights_ + m_.gamma, weights_ + m_.beta, sums_.data(), biases_.data()};
  }
  // The context lies as dz's forecasting columns do where those are its gradient.
  int64_t context_stride() const { return m_.low_rank ? m_.d_m : m_.ld; }

  const Layout m_;
  Queue& queue_;
  float *const weights_, *const gradients_;
  std::vector<DeviceArray<float>> attention_memory_;
  const Attention attention_;
  DeviceArray<float> sums_, biases_, p_, c_, mixed_, folded_, folded_bias_;
  DeviceArray<float> dz_, dp_, dc_, row_sums_, column_parts_, d_folded_, d_folded_bias_;
};

// ---- linear --------------------------------------------------------------------------------------------------------

class LinearNetwork final : public Network {
 public:
  LinearNetwork(const model::Linear& model, Queue& queue, float* weights, float* gradients, int64_t windows)
      : D_(model.shape().D),
        L_(model.shape().L),
        H_(model.shape().H),
        weight_(model.parameters().find("linear_forecaster.weight").offset),
        bias_(model.parameters().find("linear_forecaster.bias").offset),
        gamma_(model.parameters().find("revin.affine_weight").offset),
        beta_(model.parameters().find("revin.affine_bias").offset),
        queue_(queue),
        weights_(weights),
        gradients_(gradients),
        sums_(H_, "row sums of the weights"),
        biases_(H_, "biases"),
        p_(windows * D_ * H_, "the projection") {
    if (gradients == nullptr) return;
    dz_ = {windows * D_ * H_, "dZ"};
    dp_ = {windows * D_ * H_, "dP"};
    row_sums_ = {row_sum_count(windows, D_, 1), "row sums"};
    column_parts_ = {2 * gpu::projection_chunks(narrow(windows * D_)) * H_, "column sums"};
  }

  void fold() override {
    queue_.operation("weight_sums", float_cost(H_ * L_, H_ * L_ + 2 * H_), [&] {
      gpu::weight_sums(sums_.data(), biases_.data(), {nullptr, weights_ + weight_},
                       {nullptr, nullptr, nullptr, nullptr, weights_ + bias_}, widths(), narrow(L_), queue_.stream());
    });
  }
  Forecast forward(const float* x, int N, const TrainingPass*) override {
    queue_.multiply("projection", {false, true, N * D_, H_, L_, x, L_, weights_ + weight_, L_, p_.data(), H_});
    Forecast z;
    z.in = {p_.data(), H_, weights_ + gamma_, weights_ + beta_, sums_.data(), biases_.data()};
    z.widths = widths();
    if (gradients_ != nullptr) z.dz = dz_.data(), z.ldz = H_, z.row_sums = row_sums_.data();
    return z;
  }
  void backward(const float* xhat, int N, const float* loss_parts, const TrainingPass& pass) override {
    const int64_t R = N * D_;
    float* const g = gradients_;
    queue_.operation("projection_scale", float_cost(4 * R * H_, 2 * R * H_), [&] {
      gpu::projection_backward(dp_.data(), column_parts_.data(), dz_.data(), H_, weights_ + gamma_, weights_ + beta_, N,
                               narrow(D_), narrow(H_), queue_.stream());
    });
    queue_.multiply("projection_backward", {true, false, H_, L_, R, dp_.data(), H_, xhat, L_, g + weight_, L_});
    queue_.operation("finish_gradients", float_cost(2 * H_ * L_, 2 * H_ * L_), [&] {
      gpu::finish_gradients({nullptr, g + weight_, nullptr, nullptr, g + bias_, g + gamma_, g + beta_}, pass.progress,
                            column_parts_.data(), row_sums_.data(), 1, loss_parts, gpu::Folded::nothing, nullptr, N,
                            narrow(D_), widths(), narrow(L_), pass.number, queue_.stream());
    });
  }

 private:
  gpu::Widths widths() const { return {0, 0, narrow(H_)}; }

  const int64_t D_, L_, H_, weight_, bias_, gamma_, beta_;
  Queue& queue_;
  float *const weights_, *const gradients_;
  DeviceArray<float> sums_, biases_, p_, dz_, dp_, row_sums_, column_parts_;
};

// ---- networks of operations ----------------------------------------------------------------------------------------

// A matrix [rows][columns] of a pass. Its gradient is there from the first operation on, in backward order, that gives
// it a part; a sum shares its own gradient with its terms.
struct Matrix {
  float* value;
  int64_t rows, columns;
  bool differentiable;
  float* gradient = nullptr;
  bool written = false;  // the gradient holds a part: the next one is added
};

// A weight [out][in] and where its gradient is added; null: it is not trained.
struct Weight {
  const float* value;
  float* gradient;
  int64_t out, in;
};

// What operations share. A derived network says what its head reads (compute), from u [N D][L].
class OperationsNetwork : public Network {
 public:
  OperationsNetwork(const model::Model& model, Queue& queue, bool tensor_cores, float* weights, float* gradients,
                    int64_t windows)
      : table_(model.parameters()),
        D_(model.shape().D),
        L_(model.shape().L),
        H_(model.shape().H),
        revin_(model.has_revin()),
        queue_(queue),
        tensor_cores_(tensor_cores),
        weights_(weights),
        gradients_(gradients) {
    if (gradients == nullptr || !revin_) return;
    row_sums_ = {row_sum_count(windows, D_, 2), "row sums"};
  }

  void fold() override {}
  Forecast forward(const float* xhat, int N, const TrainingPass* pass) override {
    matrices_.clear();
    backward_.clear();
    next_ = 0;
    Matrix* const y = compute(scaled(xhat, N), N, pass);
    head_ = product(y, weight("linear_forecaster.weight"));
    Forecast z;
    z.in = {head_->value,
            H_,
            revin_ ? value("revin.affine_weight") : nullptr,
            revin_ ? value("revin.affine_bias") : nullptr,
            nullptr,
            value("linear_forecaster.bias")};
    z.widths = {0, 0, narrow(H_)};
    if (gradients_ != nullptr) z.dz = gradient_of(head_), z.ldz = H_, z.row_sums = row_sums_.data();
    return z;
  }
  void backward(const float*, int N, const float* loss_parts, const TrainingPass& pass) override {
    gpu::device_zero(gradients_, static_cast<std::size_t>(table_.trained_size()) * sizeof(float), queue_.stream());
    add_column_sums(gradient("linear_forecaster.bias"), head_->gradient, H_, head_->rows, H_);
    for (auto step = backward_.rbegin(); step != backward_.rend(); ++step) (*step)();
    gpu::Gradients out{};
    if (revin_) out.gamma = gradient("revin.affine_weight"), out.beta = gradient("revin.affine_bias");
    queue_.operation("finish_gradients", float_cost(6 * N * D_, 6 * N * D_), [&] {
      gpu::finish_gradients(out, pass.progress, nullptr, row_sums_.data(), 2, loss_parts, gpu::Folded::nothing, nullptr,
                            N, narrow(D_), {0, 0, 0}, narrow(L_), pass.number, queue_.stream());
    });
  }

 protected:
  virtual Matrix* compute(Matrix* u, int64_t N, const TrainingPass* pass) = 0;

  // A tensor of the slab, and its gradient: null where it is not trained or none are wanted.
  float* value(const std::string& name) const { return weights_ + table_.find(name).offset; }
  float* gradient(const std::string& name) const {
    const model::Parameter& p = table_.find(name);
    return gradients_ != nullptr && p.trained ? gradients_ + p.offset : nullptr;
  }
  // `count`: with the tensors side by side behind it.
  Weight weight(const std::string& name, int64_t count = 1) const {
    const Shape shape = table_.find(name).shape;
    return {value(name), gradient(name), count * shape.rows(), shape.cols()};
  }
  // Memory until the next pass; each pass asks for the same in the same order.
  float* buffer(int64_t count) {
    if (next_ == buffers_.size()) buffers_.emplace_back(count, "activations");
    if (buffers_[next_].count() < count) buffers_[next_] = {count, "activations"};
    return buffers_[next_++].data();
  }
  Matrix* matrix(int64_t rows, int64_t columns, bool differentiable, float* memory = nullptr) {
    float* const data = memory != nullptr ? memory : buffer(rows * columns);
    matrices_.push_back(std::make_unique<Matrix>(Matrix{data, rows, columns, gradients_ != nullptr && differentiable}));
    return matrices_.back().get();
  }
  template <class F>
  void on_backward(const Matrix* y, const F& f) {
    if (y->differentiable) backward_.push_back(f);
  }
  float* gradient_of(Matrix* x) {
    if (x->gradient == nullptr) x->gradient = buffer(x->rows * x->columns);
    return x->gradient;
  }
  void share_gradient(Matrix* term, const Matrix* sum) {
    if (term == nullptr || !term->differentiable) return;
    SAMFORMER_CHECK(term->gradient == nullptr, "the gradient of a sum's term is in use");
    term->gradient = sum->gradient;
    term->written = true;
  }
  void add_column_sums(float* to, const float* from, int64_t ld, int64_t rows, int64_t columns) {
    float* const parts = buffer(gpu::column_sum_chunks * columns);
    queue_.operation("column_sums", float_cost(rows * columns, rows * columns),
                     [&] { gpu::add_column_sums(to, parts, from, ld, rows, narrow(columns), queue_.stream()); });
  }

  // u = gamma_d xhat + beta_d; the windows themselves without RevIN.
  Matrix* scaled(const float* xhat, int64_t N) {
    if (!revin_) return matrix(N * D_, L_, false, const_cast<float*>(xhat));
    Matrix* const u = matrix(N * D_, L_, true);
    const int64_t n = u->rows * L_;
    queue_.operation("revin_affine", float_cost(2 * n, 2 * n), [&] {
      gpu::revin_affine(u->value, xhat, value("revin.affine_weight"), value("revin.affine_bias"), narrow(N), narrow(D_),
                        narrow(L_), queue_.stream());
    });
    on_backward(u, [=, this] {
      queue_.operation("revin_affine_backward", float_cost(3 * n, 2 * n), [&] {
        gpu::revin_affine_backward(row_sums_.data(), u->gradient, xhat, narrow(N), narrow(D_), narrow(L_),
                                   queue_.stream());
      });
    });
    return u;
  }

  // y = x W'.
  Matrix* product(Matrix* x, Weight w) {
    Matrix* const y = matrix(x->rows, w.out, x->differentiable || w.gradient != nullptr);
    const int64_t R = x->rows;
    queue_.multiply("linear", {false, true, R, w.out, w.in, x->value, w.in, w.value, w.in, y->value, w.out});
    on_backward(y, [=, this] {
      const float* const dy = y->gradient;
      if (w.gradient != nullptr) {
        queue_.multiply("linear_backward",
                        {true, false, w.out, w.in, R, dy, w.out, x->value, w.in, w.gradient, w.in, true});
      }
      if (x->differentiable) {
        float* const dx = gradient_of(x);
        queue_.multiply("linear_backward",
                        {false, false, R, w.in, w.out, dy, w.out, w.value, w.in, dx, w.in, x->written});
        x->written = true;
      }
    });
    return y;
  }

  // y = residual + dropout(act(a + b)), b the tensor `bias`.
  Matrix* biased(Matrix* a, const std::string& bias, Matrix* residual = nullptr,
                 gpu::Activation activation = gpu::Activation::none, const gpu::Dropout& dropout = {}) {
    const float* const b = value(bias);
    float* const db = gradient(bias);
    Matrix* const y = matrix(a->rows, a->columns,
                             a->differentiable || db != nullptr || (residual != nullptr && residual->differentiable));
    const int64_t n = a->rows * a->columns;
    queue_.operation("add_bias", float_cost(4 * n, 3 * n), [&] {
      gpu::bias_activation(y->value, a->value, b, residual != nullptr ? residual->value : nullptr, a->rows,
                           narrow(a->columns), activation, dropout, queue_.stream());
    });
    on_backward(y, [=, this] {
      if (a->differentiable || db != nullptr) {
        if (activation == gpu::Activation::none && dropout.rate == 0) {
          a->gradient = y->gradient;
        } else {
          float* const da = gradient_of(a);
          queue_.operation("add_bias_backward", float_cost(4 * n, 3 * n), [&] {
            gpu::bias_activation_backward(da, y->gradient, a->value, b, a->rows, narrow(a->columns), activation,
                                          dropout, queue_.stream());
          });
        }
        if (db != nullptr) add_column_sums(db, a->gradient, a->columns, a->rows, a->columns);
      }
      share_gradient(residual, y);
    });
    return y;
  }

  // Each of N samples transposed, and `add` added.
  Matrix* transposed(Matrix* x, int64_t N, Matrix* add = nullptr) {
    const int64_t A = x->rows / N, B = x->columns, n = x->rows * x->columns;
    Matrix* const y = matrix(N * B, A, x->differentiable || (add != nullptr && add->differentiable));
    const auto turn = [=, this](float* to, const float* from, const float* onto, int64_t rows, int64_t columns) {
      queue_.operation("transpose", float_cost(onto != nullptr ? n : 0, (onto != nullptr ? 3 : 2) * n), [&] {
        gpu::transpose(to, from, onto, narrow(N), narrow(rows), narrow(columns), queue_.stream());
      });
    };
    turn(y->value, x->value, add != nullptr ? add->value : nullptr, A, B);
    on_backward(y, [=, this] {
      if (x->differentiable) {
        float* const dx = gradient_of(x);
        turn(dx, y->gradient, x->written ? dx : nullptr, B, A);
        x->written = true;
      }
      share_gradient(add, y);
    });
    return y;
  }

  // C of p = [V | Q | K], each as wide as a key; b their biases, db that of V and Q: the key bias has no gradient.
  Matrix* attention(Matrix* p, const float* b, float* db, int64_t N) {
    const int64_t channels = p->rows / N, d_m = p->columns / 3;
    const gpu::Widths widths{narrow(d_m), narrow(d_m), 0};
    const gpu::Projected in{p->value, p->columns, nullptr, nullptr, nullptr, b};
    Matrix* const c = matrix(p->rows, d_m, p->differentiable);
    const Attention attention(queue_, channels, widths, tensor_cores_, N, c->differentiable,
                              [this](int64_t floats, const char*) { return buffer(floats); });
    attention.forward(c->value, d_m, in, narrow(N));
    on_backward(c, [=, this] {
      float* const dp = gradient_of(p);
      attention.backward(dp, nullptr, c->gradient, c->value, d_m, in, narrow(N));
      if (db != nullptr) add_column_sums(db, dp, p->columns, p->rows, 2 * d_m);
    });
    return c;
  }

  const model::ParameterTable table_;
  const int64_t D_, L_, H_;
  const bool revin_;
  Queue& queue_;
  const bool tensor_cores_;
  float *const weights_, *const gradients_;

 private:
  std::vector<std::unique_ptr<Matrix>> matrices_;
  std::vector<std::function<void()>> backward_;
  std::vector<DeviceArray<float>> buffers_;
  std::size_t next_ = 0;
  Matrix* head_ = nullptr;
  DeviceArray<float> row_sums_;
};

class TransformerNetwork final : public OperationsNetwork {
 public:
  TransformerNetwork(const model::Model& model, const model::Transformer& network, Queue& queue, bool tensor_cores,
                     float* weights, float* gradients, int64_t windows)
      : OperationsNetwork(model, queue, tensor_cores, weights, gradients, windows), kind_(network.shape().attention) {
    if (kind_ != model::Attention::sigma_reparam) return;
    const int64_t d_m = network.shape().d_m, n = d_m * L_;
    scaled_ = {4 * n, "scaled weights"};
    vectors_ = {4 * (1 + d_m + L_), "singular vectors"};
    if (gradients != nullptr) d_scaled_ = {4 * n, "gradients of scaled weights"};
    for (int64_t i = 0; i < reparam_layers; ++i) {
      const std::string name = reparam_names[i];
      const Weight w = weight(name + ".weight");
      float* const vectors = vectors_.data() + i * (1 + d_m + L_);
      layers_.push_back({w.value, value(name + ".gamma"), scaled_.data() + i * n, vectors, vectors + 1,
                         vectors + 1 + w.out, narrow(w.out), narrow(w.in)});
      if (gradients != nullptr) {
        layer_gradients_.push_back({w.gradient, gradient(name + ".gamma"), d_scaled_.data() + i * n});
      }
    }
  }

  void fold() override {
    if (kind_ != model::Attention::sigma_reparam) return;
    queue_.operation("spectral_reparam", float_cost(0, 2 * scaled_.count()),
                     [&] { gpu::spectral_reparam(layers_.data(), reparam_layers, queue_.stream()); });
  }

 private:
  // In the order of the scaled weights: values, queries and keys side by side.
  static constexpr int reparam_layers = 4;
  static constexpr const char* reparam_names[reparam_layers] = {"compute_values", "compute_queries", "compute_keys",
                                                                "output_projection"};

  Matrix* compute(Matrix* u, int64_t N, const TrainingPass*) override {
    const bool identity = kind_ == model::Attention::identity, reparam = kind_ == model::Attention::sigma_reparam;
    Weight inner = weight("compute_values.weight", identity ? 1 : 3), output = weight("output_projection.weight");
    if (reparam) {
      if (gradients_ != nullptr) {  // the first operation, so the last of backward
        d_scaled_.zero(queue_.device_stream());
        on_backward(u, [this] {
          queue_.operation("spectral_reparam_backward", float_cost(4 * scaled_.count(), 4 * scaled_.count()), [&] {
            gpu::spectral_reparam_backward(layer_gradients_.data(), layers_.data(), reparam_layers, queue_.stream());
          });
        });
      }
      const int64_t n = output.out * output.in;
      inner.value = scaled_.data(), output.value = scaled_.data() + 3 * n;
      inner.gradient = d_scaled_.data();
      output.gradient = gradients_ != nullptr ? d_scaled_.data() + 3 * n : nullptr;
    }
    Matrix* const p = product(u, inner);
    Matrix* const context = identity ? biased(p, "compute_values.bias")
                                     : attention(p, value("compute_values.bias"), gradient("compute_values.bias"), N);
    return biased(product(context, output), "output_projection.bias", u);
  }

  const model::Attention kind_;
  DeviceArray<float> scaled_, d_scaled_, vectors_;
  std::vector<gpu::SpectralLayer> layers_;
  std::vector<gpu::SpectralGradient> layer_gradients_;
};

class TemporalNetwork final : public OperationsNetwork {
 public:
  using OperationsNetwork::OperationsNetwork;

 private:
  Matrix* compute(Matrix* u, int64_t N, const TrainingPass*) override {
    Matrix* const p = product(transposed(u, N), weight("compute_values.weight", 3));
    Matrix* const context = attention(p, value("compute_values.bias"), gradient("compute_values.bias"), N);
    Matrix* const o = biased(product(context, weight("output_projection.weight")), "output_projection.bias");
    return transposed(o, N, u);
  }
};

class TsMixerNetwork final : public OperationsNetwork {
 public:
  TsMixerNetwork(const model::Model& model, const model::TsMixer& network, Queue& queue, bool tensor_cores,
                 float* weights, float* gradients, int64_t windows)
      : OperationsNetwork(model, queue, tensor_cores, weights, gradients, windows), shape_(network.shape()) {}

 private:
  // x is a term of a sum behind the norm, which has written its gradient.
  Matrix* normalised(Matrix* x, const std::string& name, int64_t N, const TrainingPass* pass) {
    const int samples = narrow(N), positions = narrow(D_ * L_);
    const int64_t n = x->rows * x->columns;
    const float *const w = value(name + ".weight"), *const b = value(name + ".bias");
    float *const dw = gradient(name + ".weight"), *const db = gradient(name + ".bias");
    Matrix* const y = matrix(x->rows, x->columns, true);
    const bool by_sample = shape_.norm == model::Norm::layer;
    const int64_t groups = by_sample ? N : positions;
    float *const mean = buffer(groups), *const rstd = buffer(groups);
    float* const parts = by_sample ? buffer(2 * (gpu::layer_norm_parts(samples, positions) + N)) : nullptr;
    queue_.operation(by_sample ? "layer_norm" : "batch_norm", float_cost(7 * n, 2 * n), [&] {
      if (by_sample) {
        gpu::layer_norm(y->value, mean, rstd, parts, x->value, w, b, samples, positions, queue_.stream());
      } else if (pass == nullptr) {
        gpu::batch_norm_running(y->value, value(name + ".running_mean"), value(name + ".running_var"), x->value, w, b,
                                samples, positions, queue_.stream());
      } else {
        const bool moves = pass->number == 0;  // not at the weights that SAM perturbed
        gpu::batch_norm(y->value, mean, rstd, moves ? value(name + ".running_mean") : nullptr,
                        moves ? value(name + ".running_var") : nullptr, pass->progress, x->value, w, b, samples,
                        positions, queue_.stream());
      }
    });
    on_backward(y, [=, this] {
      SAMFORMER_CHECK(x->written, "a norm adds to a gradient that is not there");
      queue_.operation(by_sample ? "layer_norm_backward" : "batch_norm_backward", float_cost(12 * n, 4 * n), [&] {
        if (by_sample) {
          gpu::layer_norm_backward(x->gradient, dw, db, parts, y->gradient, x->value, mean, rstd, w, samples, positions,
                                   queue_.stream());
        } else {
          gpu::batch_norm_backward(x->gradient, dw, db, y->gradient, x->value, mean, rstd, w, samples, positions,
                                   queue_.stream());
        }
      });
    });
    return y;
  }

  Matrix* compute(Matrix* h, int64_t N, const TrainingPass* pass) override {
    const gpu::Activation activation =
        shape_.activation == model::Activation::gelu ? gpu::Activation::gelu : gpu::Activation::relu;
    int site = 0;
    const auto dropout = [&]() -> gpu::Dropout {
      if (pass == nullptr) return {};
      return {shape_.dropout, pass->seed, pass->number, site++, pass->progress};
    };
    for (int64_t block = 0; block < shape_.blocks; ++block) {
      const std::string at = shape_.shared ? "" : fmt::format("blocks.{}.", block);
      const std::string time_norm = at + (shape_.shared ? "norm" : "time_norm");
      const std::string feature_norm = at + (shape_.shared ? "norm" : "feature_norm");
      Matrix* const time = product(normalised(h, time_norm, N, pass), weight(at + "time.weight"));
      h = biased(time, at + "time.bias", h, activation, dropout());
      Matrix* const steps = transposed(normalised(h, feature_norm, N, pass), N);
      Matrix* const hidden = biased(product(steps, weight(at + "feature_in.weight")), at + "feature_in.bias", nullptr,
                                    activation, dropout());
      Matrix* const mixed = biased(product(hidden, weight(at + "feature_out.weight")), at + "feature_out.bias", nullptr,
                                   gpu::Activation::none, dropout());
      h = transposed(mixed, N, h);
    }
    return h;
  }

  const model::TsMixerShape shape_;
};

}  // namespace

std::unique_ptr<Network> make_network(const model::Model& model, Queue& queue, bool tensor_cores, float* weights,
                                      float* gradients, int64_t windows) {
  const auto& network = model.network();
  if (const auto* samformer = std::get_if<model::Samformer>(&network)) {
    return std::make_unique<SamformerNetwork>(*samformer, queue, tensor_cores, weights, gradients, windows);
  }
  if (const auto* linear = std::get_if<model::Linear>(&network)) {
    return std::make_unique<LinearNetwork>(*linear, queue, weights, gradients, windows);
  }
  if (const auto* transformer = std::get_if<model::Transformer>(&network)) {
    return std::make_unique<TransformerNetwork>(model, *transformer, queue, tensor_cores, weights, gradients, windows);
  }
  if (const auto* mixer = std::get_if<model::TsMixer>(&network)) {
    return std::make_unique<TsMixerNetwork>(model, *mixer, queue, tensor_cores, weights, gradients, windows);
  }
  return std::make_unique<TemporalNetwork>(model, queue, tensor_cores, weights, gradients, windows);
}

int64_t rows_per_window(const model::Model& model) {
  const auto [D, L, H] = model.shape();
  const auto& network = model.network();
  const bool by_steps =
      std::holds_alternative<model::Temporal>(network) || std::holds_alternative<model::TsMixer>(network);
  return by_steps ? std::max(D, L) : D;
}

}  // namespace SAMFORMER_GPU_BACKEND
}  // namespace samformer::optim
