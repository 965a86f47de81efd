// Small helpers for names that people type.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace samformer {

// The known name with the smallest edit distance (Damerau: insertions, deletions, replacements, swaps of neighbours),
// capitals ignored; one that begins with `name` comes first. Empty where there is none to name.
std::string nearest_name(std::string_view name, std::span<const std::string> known);

}  // namespace samformer
