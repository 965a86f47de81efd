#include "model/onnx.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

namespace samformer::model {
namespace {

// A protobuf message, field by field; the numbers of the fields are onnx.proto3's.
class Message {
 public:
  Message& integer(int field, std::int64_t value) {
    varint(static_cast<std::uint64_t>(field) << 3);
    varint(static_cast<std::uint64_t>(value));
    return *this;
  }
  Message& text(int field, std::string_view value) {
    varint(static_cast<std::uint64_t>(field) << 3 | 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(int field, const Message& value) { return text(field, value.bytes_); }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(std::uint64_t value) {
    for (; value > 127; value >>= 7) bytes_ += static_cast<char>(value | 128);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

enum DataType { float32 = 1, int64 = 7 };      // TensorProto.DataType
enum AttributeType { integer = 2, list = 7 };  // AttributeProto.AttributeType

Message attribute(std::string_view name, std::int64_t value) {
  return Message().text(1, name).integer(3, value).integer(20, AttributeType::integer);
}
Message attribute(std::string_view name, const std::vector<std::int64_t>& values) {
  Message m;
  m.text(1, name);
  for (const std::int64_t value : values) m.integer(8, value);
  return m.integer(20, AttributeType::list);
}

// A GraphProto; values are known by their names.
class Graph {
 public:
  using Name = std::string;

  Name node(std::string_view type, const std::vector<Name>& inputs, const std::vector<Message>& attributes = {},
            Name output = {}) {
    if (output.empty()) output = fmt::format("{}_{}", type, ++nodes_);
    Message m;
    for (const Name& input : inputs) m.text(1, input);
    m.text(2, output).text(3, output).text(4, type);
    for (const Message& a : attributes) m.message(5, a);
    graph_.message(1, m);
    return output;
  }
  Name tensor(const Name& name, const std::vector<std::int64_t>& shape, const std::vector<float>& values) {
    return constant(name, shape, DataType::float32, values.data(), values.size() * sizeof(float));
  }
  Name integers(const Name& name, const std::vector<std::int64_t>& values) {
    return constant(name, {std::ssize(values)}, DataType::int64, values.data(), values.size() * sizeof(std::int64_t));
  }
  Name number(const Name& name, double value) { return tensor(name, {}, {static_cast<float>(value)}); }
  // The graph with its float32 input and output [batch, rows, columns].
  Message with(const Name& input, std::int64_t L, std::int64_t D, const Name& output, std::int64_t H, std::int64_t T) {
    const auto value = [](const Name& name, std::int64_t rows, std::int64_t columns) {
      Message shape;
      shape.message(1, Message().text(2, "batch"));
      for (const std::int64_t size : {rows, columns}) shape.message(1, Message().integer(1, size));
      const Message tensor = Message().integer(1, DataType::float32).message(2, shape);
      return Message().text(1, name).message(2, Message().message(1, tensor));
    };
    Message all = graph_;
    return all.text(2, "samformer").message(11, value(input, L, D)).message(12, value(output, H, T));
  }

 private:
  Name constant(const Name& name, const std::vector<std::int64_t>& shape, DataType type, const void* data,
                std::size_t size) {
    static_assert(std::endian::native == std::endian::little);
    Message m;
    for (const std::int64_t dimension : shape) m.integer(1, dimension);
    m.integer(2, type).text(8, name).text(9, {static_cast<const char*>(data), size});
    graph_.message(5, m);
    return name;
  }

  Message graph_;
  int nodes_ = 0;
};

class Exporter {
 public:
  explicit Exporter(const OnnxSource& source) : source_(source), shape_(source.model.shape()) {}

  Message graph() {
    using Axes = std::vector<std::int64_t>;
    const std::int64_t D = shape_.D;
    const auto T = std::ssize(source_.targets);
    const std::vector<Message> to_channels = {attribute("perm", Axes{0, 2, 1})};
    const std::vector<Message> over_steps = {attribute("axes", Axes{-1}), attribute("keepdims", 1)};

    std::vector<std::int32_t> channels(static_cast<std::size_t>(D));
    std::iota(channels.begin(), channels.end(), 0);
    Name x = g_.node("Transpose", {"values"}, to_channels);
    x = g_.node("Sub", {x, column("mean", source_.scaler.mean, channels)});
    x = g_.node("Div", {x, column("std", source_.scaler.std, channels)});

    const Name mean = g_.node("ReduceMean", {x}, over_steps), centred = g_.node("Sub", {x, mean});
    const Name variance = g_.node("ReduceMean", {g_.node("Mul", {centred, centred})}, over_steps);
    const Name sigma =
        g_.node("Sqrt", {g_.node("Add", {variance, g_.number("revin.epsilon", kernels::revin_epsilon)})});
    Name level = mean;
    if (source_.center == kernels::Center::last) {
      level =
          g_.node("Slice", {x, g_.integers("last", {-1}),
                            g_.integers("end", {std::numeric_limits<std::int64_t>::max()}), g_.integers("axis", {2})});
    }
    const Name gamma = weights("revin.affine_weight", {D, 1}), beta = weights("revin.affine_bias", {D, 1});
    const Name normalised = g_.node("Div", {g_.node("Sub", {x, level}), sigma});
    const Name u = g_.node("Add", {g_.node("Mul", {normalised, gamma}), beta});

    const Name z = linear("linear_forecaster", shape_.H, shape_.L, forecast_from(u));
    Name scale = gamma;
    if (const Samformer* s = samformer(); s && s->guard() > 0) {
      scale = g_.node("Add", {gamma, g_.number("revin.guard", s->guard())});
    }
    Name y = g_.node("Div", {g_.node("Sub", {z, beta}), scale});
    y = g_.node("Add", {g_.node("Mul", {y, sigma}), level});
    if (T < D || !std::ranges::equal(source_.targets, channels)) {
      y = g_.node("Gather", {y, g_.integers("targets", {source_.targets.begin(), source_.targets.end()})},
                  {attribute("axis", 1)});
    }
    y = g_.node("Mul", {y, column("target_std", source_.scaler.std, source_.targets)});
    y = g_.node("Add", {y, column("target_mean", source_.scaler.mean, source_.targets)});
    g_.node("Transpose", {y}, to_channels, "forecast");
    return g_.with("values", shape_.L, D, "forecast", shape_.H, T);
  }

 private:
  using Name = Graph::Name;

  const Samformer* samformer() const { return std::get_if<Samformer>(&source_.model.network()); }

  // What the last linear layer reads: u, of SAMformer with attention's part.
  Name forecast_from(const Name& u) {
    if (!samformer()) return u;
    const auto [value, D, L, H, d_m] = samformer()->shape();
    const Name q = linear("compute_queries", d_m, L, u), k = linear("compute_keys", d_m, L, u);
    const Name v = linear("compute_values", value == Value::low_rank ? d_m : L, L, u);
    const Name keys = g_.node("Transpose", {k}, {attribute("perm", std::vector<std::int64_t>{0, 2, 1})});
    const Name scores =
        g_.node("Mul", {g_.node("MatMul", {q, keys}), g_.number("attention.scale", 1 / std::sqrt(double(d_m)))});
    const Name context = g_.node("MatMul", {g_.node("Softmax", {scores}, {attribute("axis", -1)}), v});
    return g_.node("Add", {u, value == Value::low_rank ? linear("output_projection", L, d_m, context) : context});
  }
  const Parameter& parameter(std::string_view name) const {
    const std::vector<Parameter>& all = source_.model.parameters().all();
    return *std::ranges::find(all, name, &Parameter::name);
  }
  Name weights(const Name& name, const std::vector<std::int64_t>& shape) {
    const Parameter& p = parameter(name);
    const float* const from = source_.weights.data() + p.offset;
    return g_.tensor(name, shape, {from, from + p.shape.count()});
  }
  // x W' + b, W [out, in] stored as it is multiplied, [in, out].
  Name linear(const Name& layer, std::int64_t out, std::int64_t in, const Name& x) {
    const float* const from = source_.weights.data() + parameter(layer + ".weight").offset;
    std::vector<float> turned(static_cast<std::size_t>(in * out));
    for (std::int64_t i = 0; i < in; ++i) {
      for (std::int64_t o = 0; o < out; ++o) turned[static_cast<std::size_t>(i * out + o)] = from[o * in + i];
    }
    const Name product = g_.node("MatMul", {x, g_.tensor(layer + ".weight", {in, out}, turned)});
    return g_.node("Add", {product, weights(layer + ".bias", {out})});
  }
  // A number of each of some channels, [channels, 1].
  Name column(const Name& name, const std::vector<double>& of, std::span<const std::int32_t> channels) {
    std::vector<float> values;
    for (const std::int32_t d : channels) values.push_back(static_cast<float>(of[static_cast<std::size_t>(d)]));
    return g_.tensor(name, {std::ssize(channels), 1}, values);
  }

  const OnnxSource& source_;
  Sizes shape_;
  Graph g_;
};

}  // namespace

std::string to_onnx(const OnnxSource& source) {
  const auto& network = source.model.network();
  if (!std::holds_alternative<Samformer>(network) && !std::holds_alternative<Linear>(network)) {
    throw Error(Exit::usage, "this model has no ONNX form").hint("samformer, transformer and linear have one");
  }
  if (source.model.covariates() > 0) {
    throw Error(Exit::usage, "a model with columns known ahead has no ONNX form");
  }
  Message file;
  file.integer(1, 8).text(2, "samformer").message(7, Exporter(source).graph());
  file.message(8, Message().text(1, "").integer(2, 17));
  for (const auto& [key, value] : source.metadata) file.message(14, Message().text(1, key).text(2, value));
  return file.bytes();
}

}  // namespace samformer::model
