#include "model/data/numbers.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "core/text.h"

namespace samformer::model {
namespace {

constexpr std::string_view minus_sign = "\xE2\x88\x92";  // U+2212

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_missing(std::string_view text) {
  static constexpr std::array<std::string_view, 26> words = {
      "na",  "n/a",     "nan",     "null",  "nil",   "none",   "missing", "-",      "--",
      "---", ".",       "..",      "?",     "\\n",   "<na>",   "(null)",  "-nan",   "#n/a",
      "#na", "#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!",  "#error!"};
  if (text.empty()) return true;
  return text.size() <= 8 && std::ranges::find(words, lower(text)) != words.end();
}

// What stands between groups of three digits at the head of the text; its length, 0 where nothing does.
std::size_t group_separator(std::string_view text, Decimal decimal) {
  if (text.empty()) return 0;
  if (text[0] == (decimal == Decimal::comma ? '.' : ',')) return 1;
  for (const std::string_view known : {" ", "'", "\xC2\xA0", "\xE2\x80\xAF", "\xE2\x80\x89", "\xE2\x80\x99"}) {
    if (text.starts_with(known)) return known.size();
  }
  return 0;
}

// Takes a sign, in whatever place, off the text; false where it has several.
bool take_sign(std::string_view& text, bool& negative, bool& account) {
  if (text.size() > 2 && text.front() == '(' && text.back() == ')') {
    text = text.substr(1, text.size() - 2);
    negative = account = true;
  } else if (text.starts_with('-') || text.starts_with('+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  } else if (text.starts_with(minus_sign)) {
    negative = true;
    text.remove_prefix(minus_sign.size());
  } else if (text.size() > 1 && text.back() == '-') {
    negative = account = true;
    text.remove_suffix(1);
  }
  return !text.empty() && text[0] != '-' && text[0] != '+';
}

// The digits as from_chars reads them, without groups; empty where the text is no number so written.
std::string plain_digits(std::string_view text, Decimal decimal) {
  std::string plain;
  std::string_view separator;
  std::size_t i = 0, group = 0;
  while (i < text.size()) {
    if (is_digit(text[i])) {
      plain += text[i++];
      ++group;
      continue;
    }
    const std::size_t length = decimal == Decimal::found ? 0 : group_separator(text.substr(i), decimal);
    if (length == 0) break;
    const std::string_view found = text.substr(i, length);
    const bool first = separator.empty();
    if (first ? group < 1 || group > 3 || plain[0] == '0' : group != 3 || found != separator) return "";
    separator = found;
    i += length;
    group = 0;
  }
  if (!separator.empty() && group != 3) return "";
  const std::size_t whole = plain.size();
  if (i < text.size() && text[i] == (decimal == Decimal::comma ? ',' : '.')) {
    plain += '.';
    for (++i; i < text.size() && is_digit(text[i]); ++i) plain += text[i];
    if (whole == 0 && plain.size() == 1) return "";
  } else if (whole == 0) {
    return "";
  }
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    const std::size_t digits = i + 1 + (i + 1 < text.size() && (text[i + 1] == '-' || text[i + 1] == '+') ? 1 : 0);
    if (digits == text.size() || !std::all_of(text.begin() + static_cast<std::ptrdiff_t>(digits), text.end(), is_digit))
      return "";
    return plain + std::string(text.substr(i));
  }
  return i == text.size() ? plain : "";
}

CellKind kind_of(double& value, bool account) {
  if (std::isnan(value)) return CellKind::missing;
  if (std::abs(value) > largest_value) {
    value = missing_value;
    return CellKind::infinite;
  }
  return account ? CellKind::account : CellKind::number;
}

// As std::from_chars, the whole text.
bool parse(std::string_view text, double& value) {
  const auto [stop, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status == std::errc::invalid_argument || stop != text.data() + text.size()) return false;
  if (status == std::errc::result_out_of_range) {
    // from_chars does not say which way; a number that is too small is 0.
    const bool small =
        text[0] == '0' || text.starts_with("-0") || text.find("e-") != text.npos || text.find("E-") != text.npos;
    value = small ? 0 : std::numeric_limits<double>::infinity();
  }
  return true;
}

}  // namespace

CellKind read_cell(std::string_view text, Decimal decimal, double& value) {
  value = missing_value;
  if (is_missing(text)) return CellKind::missing;
  double read = 0;
  if (decimal != Decimal::comma || text.find('.') == text.npos) {
    std::string_view digits = text;
    if (digits.size() > 1 && digits[0] == '+' && digits[1] != '-') digits.remove_prefix(1);
    if (parse(digits, read)) {
      value = read;
      return kind_of(value, false);
    }
  }
  const std::string word = text.size() <= 5 ? lower(text) : "";
  if (word == "true" || word == "false") {
    value = word == "true" ? 1 : 0;
    return CellKind::number;
  }
  bool negative = false, account = false;
  if (!take_sign(text, negative, account)) return CellKind::unparsable;
  const std::string digits = plain_digits(text, decimal);
  if (digits.empty() || !parse(digits, read)) return CellKind::unparsable;
  value = negative ? -read : read;
  return kind_of(value, account);
}

OtherReading read_otherwise(std::string_view text) {
  const auto is_number = [](std::string_view part, Decimal decimal, double& value) {
    const CellKind kind = read_cell(part, decimal, value);
    return kind == CellKind::number || kind == CellKind::account;
  };
  OtherReading other;
  double point = 0, comma = 0;
  other.point = is_number(text, Decimal::point, point);
  other.comma = is_number(text, Decimal::comma, comma);
  other.same = other.point && other.comma && point == comma;
  if (other.point || other.comma) return other;
  const std::size_t first = text.find_first_of("0123456789+-."), last = text.find_last_of("0123456789");
  if (first == text.npos || last == text.npos || last < first) return other;
  std::string_view before = text.substr(0, first), after = text.substr(last + 1);
  while (before.ends_with(' ')) before.remove_suffix(1);
  while (after.starts_with(' ')) after.remove_prefix(1);
  const std::string_view core = text.substr(first, last + 1 - first);
  if (before.size() + after.size() > 12 ||
      (!is_number(core, Decimal::point, point) && !is_number(core, Decimal::comma, comma)))
    return other;
  other.unit = std::string(before) + std::string(after);
  return other;
}

}  // namespace samformer::model
