#include "model/data/numbers.h"

#include <charconv>
#include <cmath>
#include <string>

#include "core/text.h"

namespace samformer::model {

CellKind read_cell(std::string_view text, double& value) {
  value = missing_value;
  if (text.empty()) return CellKind::missing;
  if (text.size() <= 4) {
    const std::string word = lower(text);
    if (word == "nan" || word == "na" || word == "n/a" || word == "null") return CellKind::missing;
  }
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  double read = 0;
  const auto [stop, status] = std::from_chars(text.data(), text.data() + text.size(), read);
  if (status == std::errc::invalid_argument || stop != text.data() + text.size()) return CellKind::unparsable;
  if (status == std::errc::result_out_of_range) {
    // from_chars does not say which way; a number that is too small is 0.
    if (text[0] != '0' && !text.starts_with("-0") && text.find("e-") == text.npos && text.find("E-") == text.npos) {
      return CellKind::infinite;
    }
    read = 0;
  }
  if (std::isnan(read)) return CellKind::missing;
  if (std::abs(read) > largest_value) return CellKind::infinite;
  value = read;
  return CellKind::number;
}

}  // namespace samformer::model
