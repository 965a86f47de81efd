#include "core/text.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>
#include <vector>

namespace samformer {
namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::array<std::vector<std::size_t>, 3> row;
  for (auto& r : row) r.resize(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    auto &now = row[i % 3], &before = row[(i + 2) % 3], &two_before = row[(i + 1) % 3];
    now[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      now[j] = std::min({before[j] + 1, now[j - 1] + 1, before[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        now[j] = std::min(now[j], two_before[j - 2] + 1);
      }
    }
  }
  return row[a.size() % 3][b.size()];
}

// The first 64 letters, small: a longer word is near to nothing, and must not cost its square.
std::string folded(std::string_view name) {
  std::string out(name.substr(0, 64));
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

}  // namespace

std::string nearest_name(std::string_view name, std::span<const std::string> known) {
  const std::string word = folded(name);
  std::string nearest;
  std::size_t least = std::numeric_limits<std::size_t>::max();
  for (const std::string& candidate : known) {
    const std::string other = folded(candidate);
    const std::size_t distance = word.size() > 2 && other.starts_with(word) ? 0 : edit_distance(word, other);
    if (distance < least) nearest = candidate, least = distance;
  }
  return nearest;
}

}  // namespace samformer
