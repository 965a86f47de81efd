// Numbers, times and places as text, and numbers as JSON.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace samformer::tools {

// Shortest decimal that reads back as the same double, in every locale.
std::string shortest(double value);
// The same for the nearest float32 where those are at most `tolerance` off around here; elsewhere (a level that is large
// beside its variation) the shortest that is. Never -0.
std::string shortest(double value, double tolerance);
// The number that such a text is.
double number_of(std::string_view text);
// `digits` behind the point; `otherwise` for what is no number.
std::string fixed(const nlohmann::ordered_json& value, int digits, std::string_view otherwise = "-");
// A finite number, or null.
nlohmann::ordered_json number_or_null(double value);
// Now in UTC, in strftime's `format`.
std::string utc_text(const char* format);
// "file:line:column" as far as they are known.
std::string place_text(const std::string& file, std::int64_t line, std::int64_t column);

}  // namespace samformer::tools
