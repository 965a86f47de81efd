// Dual numbers v + d e, e^2 = 0: forward-mode derivatives. Tape<Dual<double>> differentiates the gradient itself, so
// its tangent is an exact Hessian-vector product (forward over reverse; Pearlmutter 1994).
#pragma once

#include <cmath>
#include <numbers>

namespace samformer {

template <class T>
struct Dual {
  T v{};  // value
  T d{};  // tangent

  Dual() = default;
  Dual(double value) : v(static_cast<T>(value)) {}  // a constant: implicit, as number literals are
  Dual(T value, T tangent) : v(value), d(tangent) {}

  friend Dual operator+(Dual a, Dual b) { return {a.v + b.v, a.d + b.d}; }
  friend Dual operator-(Dual a, Dual b) { return {a.v - b.v, a.d - b.d}; }
  friend Dual operator-(Dual a) { return {-a.v, -a.d}; }
  friend Dual operator*(Dual a, Dual b) { return {a.v * b.v, a.d * b.v + a.v * b.d}; }
  friend Dual operator/(Dual a, Dual b) {
    const T q = a.v / b.v;
    return {q, (a.d - q * b.d) / b.v};
  }
  Dual& operator+=(Dual b) { return *this = *this + b; }
  Dual& operator-=(Dual b) { return *this = *this - b; }
  Dual& operator*=(Dual b) { return *this = *this * b; }
  Dual& operator/=(Dual b) { return *this = *this / b; }
  friend bool operator<(Dual a, Dual b) { return a.v < b.v; }
  friend bool operator>(Dual a, Dual b) { return a.v > b.v; }

  friend Dual sqrt(Dual a) {
    const T root = std::sqrt(a.v);
    return {root, a.d / (2 * root)};
  }
  friend Dual log(Dual a) { return {std::log(a.v), a.d / a.v}; }
  friend Dual tanh(Dual a) {
    const T t = std::tanh(a.v);
    return {t, a.d * (1 - t * t)};
  }
  friend Dual error_function(Dual a) {
    return {std::erf(a.v), a.d * (2 * std::numbers::inv_sqrtpi_v<T> * std::exp(-a.v * a.v))};
  }
  friend Dual exponential(Dual a) {
    const T e = std::exp(a.v);
    return {e, a.d * e};
  }
  friend Dual detach(Dual a) { return {a.v, T{}}; }
};

}  // namespace samformer
