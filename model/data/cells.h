// The cells of delimited text, one after the other: quoted cells, the blanks around a cell, CRLF; lines count from 1.
//
// Errors: Exit::data for a quote that is never closed.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"

namespace samformer::model {

// Walks the cells of the text. Positions are kept by the caller, so that the first rows can be read ahead.
class Cells {
 public:
  Cells(std::string_view text, char delimiter, const std::string& path)
      : at_(text.data()), end_(text.data() + text.size()), delimiter_(delimiter), path_(path) {}

  bool done() const { return at_ == end_; }
  std::int64_t line() const { return line_; }

  // Skips one empty line.
  bool blank_line() {
    const char* next = at_;
    if (next != end_ && *next == '\r') ++next;
    if (next == end_ || *next != '\n') return false;
    at_ = next + 1;
    ++line_;
    return true;
  }

  // Reads one cell, without its quotes and the blanks around it; the view lives until the next call. False after the
  // row's last cell.
  bool cell(std::string_view& text) {
    if (at_ != end_ && *at_ == '"') {
      unquote();
      text = unquoted_;
    } else {
      const char* start = at_;
      while (at_ != end_ && *at_ != delimiter_ && *at_ != '\n') ++at_;
      text = {start, static_cast<std::size_t>(at_ - start)};
    }
    while (!text.empty() && (text.back() == '\r' || text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    return separator();
  }

  // The fast path for plain decimals whose digits fit 2^53: one exact integer divided by one exact power of ten is
  // rounded once, as the standard wants (Clinger 1990). `more` is cell's result. Moves only where it succeeds.
  bool plain_decimal(double& value, bool& more) {
    static constexpr std::array<double, 23> powers = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                      1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                      1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char* p = at_;
    const bool negative = p != end_ && *p == '-';
    if (negative) ++p;
    std::uint64_t digits = 0;
    const char* const start = p;
    while (p != end_ && is_digit(*p)) digits = digits * 10 + static_cast<std::uint64_t>(*p++ - '0');
    std::ptrdiff_t count = p - start;
    std::ptrdiff_t fraction = 0;
    if (p != end_ && *p == '.') {
      const char* const point = ++p;
      while (p != end_ && is_digit(*p)) digits = digits * 10 + static_cast<std::uint64_t>(*p++ - '0');
      fraction = p - point;
      count += fraction;
    }
    // 19 digits cannot have overflowed 64 bits.
    if (count == 0 || count > 19 || digits > (std::uint64_t{1} << 53)) return false;
    if (p != end_ && *p == '\r') ++p;
    if (p != end_ && *p != delimiter_ && *p != '\n') return false;
    value = static_cast<double>(digits) / powers[static_cast<std::size_t>(fraction)];
    if (negative) value = -value;
    at_ = p;
    more = separator();
    return true;
  }

 private:
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }

  bool separator() {
    if (at_ == end_) return false;
    if (*at_++ == delimiter_) return true;
    ++line_;
    return false;
  }

  void unquote() {
    unquoted_.clear();
    const char* from = at_ + 1;
    while (true) {
      const char* const quote = std::find(from, end_, '"');
      if (quote == end_) {
        throw Error(Exit::data, "a quote is opened and never closed")
            .at(path_, line_)
            .hint("close or remove the quote");
      }
      unquoted_.append(from, quote);
      from = quote + 1;
      if (from == end_ || *from != '"') break;
      unquoted_ += *from++;
    }
    line_ += std::count(at_, from, '\n');
    for (at_ = from; at_ != end_ && *at_ != delimiter_ && *at_ != '\n'; ++at_) unquoted_ += *at_;
  }

  const char* at_;
  const char* end_;
  char delimiter_;
  std::int64_t line_ = 1;
  std::string unquoted_;
  const std::string& path_;
};

}  // namespace samformer::model
