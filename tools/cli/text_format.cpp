#include "tools/cli/text_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ctime>

namespace samformer::tools {

std::string shortest(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

std::string shortest(double value, double tolerance) {
  const auto rounded = static_cast<float>(value);
  const float size = std::fabs(rounded), spacing = std::nextafter(size, HUGE_VALF) - size;
  char text[32];
  if (static_cast<double>(spacing) / 2 <= tolerance) {
    return {text, std::to_chars(text, text + sizeof text, rounded + 0.0F).ptr};
  }
  std::string exact = shortest(value + 0.0);
  const int digits = std::max(0, static_cast<int>(std::ceil(-std::log10(2 * tolerance))));
  const std::string fewer = shortest(number_of(fmt::format("{:.{}f}", value, digits)) + 0.0);
  return fewer.size() < exact.size() ? fewer : exact;
}

double number_of(std::string_view text) {
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::string fixed(const nlohmann::ordered_json& value, int digits, std::string_view otherwise) {
  return value.is_number() ? fmt::format("{:.{}f}", value.get<double>(), digits) : std::string(otherwise);
}

nlohmann::ordered_json number_or_null(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

std::string utc_text(const char* format) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[64];
  return {text, std::strftime(text, sizeof text, format, &parts)};
}

std::string place_text(const std::string& file, std::int64_t line, std::int64_t column) {
  std::string place = file;
  if (line > 0) place += fmt::format(":{}", line);
  if (column > 0) place += fmt::format(":{}", column);
  return place;
}

}  // namespace samformer::tools
