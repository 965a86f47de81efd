#include "core/text.h"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <vector>

namespace samformer {

std::string nearest_name(std::string_view name, std::span<const std::string> known) {
  const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
  name = name.substr(0, 64);  // bounds the work for hostile names
  std::string nearest;
  std::size_t least = 0;
  std::vector<std::size_t> row(name.size() + 1);  // Levenshtein, one row at a time
  for (const std::string& candidate : known) {
    std::iota(row.begin(), row.end(), 0U);
    for (std::size_t i = 0; i < std::min<std::size_t>(candidate.size(), 64); ++i) {
      std::size_t diagonal = row[0]++;
      for (std::size_t j = 0; j < name.size(); ++j) {
        const std::size_t replaced = diagonal + (lower(candidate[i]) == lower(name[j]) ? 0 : 1);
        diagonal = row[j + 1];
        row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
      }
    }
    if (nearest.empty() || row.back() < least) {
      nearest = candidate;
      least = row.back();
    }
  }
  return nearest;
}

}  // namespace samformer
