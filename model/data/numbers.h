// A cell as a number. Missing: empty, NaN, NA, N/A, null (capitals ignored). Values beyond 1e100 count as infinite.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>

namespace samformer::model {

inline constexpr double missing_value = std::numeric_limits<double>::quiet_NaN();
inline constexpr double largest_value = 1e100;  // squares of values, and their sums, stay finite

enum class CellKind : std::uint8_t { number, missing, infinite, unparsable };

// `value` is missing_value unless the cell holds a number.
CellKind read_cell(std::string_view text, double& value);

}  // namespace samformer::model
