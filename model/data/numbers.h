// A cell as a number.
//
// With a decimal point: digits, a point, an exponent; with --decimal comma a comma is in the point's place. Said so,
// groups of three digits may stand apart: by commas (point) or points (comma), blanks, no-break or thin spaces,
// apostrophes. Where nothing is said, groups are no numbers: 1,234 could be either.
// A minus is -, U+2212, or in accounts (12) and 12-. TRUE is 1, FALSE is 0, capitals ignored.
// Missing: empty, NaN, NA, N/A, null, nil, none, missing, -, --, ---, ., .., ?, \N, <NA>, (null), and spreadsheets'
// errors (#N/A, #DIV/0!, ...), capitals ignored. Values beyond 1e100 count as infinite.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "model/data/series.h"

namespace samformer::model {

inline constexpr double missing_value = std::numeric_limits<double>::quiet_NaN();
inline constexpr double largest_value = 1e100;  // squares of values, and their sums, stay finite

// `account`: a number with its minus behind it or in brackets.
enum class CellKind : std::uint8_t { number, account, missing, infinite, unparsable };

// `value` is missing_value unless the cell holds a number.
CellKind read_cell(std::string_view text, Decimal decimal, double& value);

// What text that is no number would be if it were said how numbers are written, or if its unit were away.
struct OtherReading {
  bool point = false, comma = false;  // a number with --decimal point, comma
  bool same = false;                  // the same one
  std::string unit;                   // what stands beside the number
};
OtherReading read_otherwise(std::string_view text);

}  // namespace samformer::model
