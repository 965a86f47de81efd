#include "model/data/readers.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "core/error.h"
#include "core/text.h"
#include "model/data/csv.h"
#include "model/data/inflate.h"

namespace samformer::model {

std::span<const Reader> readers() {
  static constexpr Reader rows[] = {{".csv", parse_csv}, {".csv.gz", parse_csv}, {".csv.zst", parse_csv}};
  return rows;
}

std::string read_bytes(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> opened(
      path == "-" ? nullptr : std::fopen(path.c_str(), "rb"),
      [](std::FILE* f) { return f == nullptr ? 0 : std::fclose(f); });
  std::FILE* const file = path == "-" ? stdin : opened.get();
  const auto fail = [&](int number) {
    const bool absent = number == ENOENT || number == ENOTDIR || number == EISDIR || number == ENAMETOOLONG;
    throw Error(absent ? Exit::data : Exit::io, fmt::format("cannot read the file: {}", std::strerror(number)))
        .at(path)
        .hint("expected the path of a CSV file, or - for stdin");
  };
  if (file == nullptr) fail(errno);
  struct stat status {};
  const bool known = fstat(fileno(file), &status) == 0;
  if (known && S_ISDIR(status.st_mode)) fail(EISDIR);
  if (path != "-" && known && !S_ISREG(status.st_mode) && !S_ISFIFO(status.st_mode)) {
    throw Error(Exit::data, "not a file but a device or socket").at(path).hint("expected the path of a CSV file");
  }
  std::string bytes;
  std::size_t size = 0;
  bytes.resize(known && S_ISREG(status.st_mode) ? static_cast<std::size_t>(status.st_size) + 1 : 1 << 16);
  while (true) {
    const std::size_t got = std::fread(bytes.data() + size, 1, bytes.size() - size, file);
    size += got;
    if (size < bytes.size()) break;
    bytes.resize(bytes.size() * 2);
  }
  if (std::ferror(file) != 0) fail(errno);
  bytes.resize(size);
  return bytes;
}

std::string inflate_bounded(std::string_view bytes, const std::string& path) {
  if (!is_compressed(bytes)) return std::string(bytes);
  constexpr std::size_t gib = std::size_t{1} << 30, likely_ratio = 200;
  return inflate(bytes, path, std::clamp(likely_ratio * bytes.size(), gib, 64 * gib));
}

Series parse_series(std::string_view bytes, const std::string& path, const SeriesOptions& options) {
  const std::string file = lower(path);
  const auto found = std::ranges::find_if(readers(), [&](const Reader& r) { return file.ends_with(r.extension); });
  const Reader& reader = found == readers().end() ? readers().front() : *found;
  if (!is_compressed(bytes)) return reader.read(bytes, path, options);
  Series series = reader.read(inflate_bounded(bytes, path), path, options);
  const std::string inner = std::filesystem::path(series.name).extension().string();
  if (lower(inner) == readers().front().extension) series.name.resize(series.name.size() - inner.size());
  return series;
}

}  // namespace samformer::model
