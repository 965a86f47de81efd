#include "model/data/inflate.h"

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <new>
#include <utility>

#include "core/error.h"

namespace samformer::model {
namespace {

constexpr std::string_view gzip_magic = "\x1F\x8B", zstd_magic = "\x28\xB5\x2F\xFD";
constexpr std::size_t piece = std::size_t{1} << 20;

class Text {
 public:
  Text(const std::string& path, std::size_t most) : path_(path), most_(most) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Exit::data, what).at(path_).hint("compress or copy the file again");
  }
  // Room for the next bytes; `used` of them were written.
  std::pair<char*, std::size_t> room() {
    if (text_.size() - size_ < piece) text_.resize(std::max(2 * text_.size(), 4 * piece));
    return {text_.data() + size_, piece};
  }
  void used(std::size_t bytes) {
    size_ += bytes;
    if (size_ <= most_) return;
    throw Error(Exit::data, fmt::format("the compressed text has more than {} bytes", most_))
        .at(path_)
        .hint("if it is meant to have so many, unpack it and read the rows that are needed");
  }
  std::string take() {
    text_.resize(size_);
    return std::move(text_);
  }

 private:
  const std::string& path_;
  std::size_t most_, size_ = 0;
  std::string text_;
};

std::string inflate_gzip(std::string_view bytes, Text text) {
  z_stream stream{};
  constexpr int gzip_alone = 16 + MAX_WBITS;
  if (inflateInit2(&stream, gzip_alone) != Z_OK) throw std::bad_alloc();
  const std::unique_ptr<z_stream, int (*)(z_stream*)> ended(&stream, inflateEnd);
  const auto refill = [&] {
    const std::size_t next = std::min<std::size_t>(bytes.size(), std::numeric_limits<uInt>::max());
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(next);
    bytes.remove_prefix(next);
  };
  while (true) {
    if (stream.avail_in == 0) refill();
    const auto [to, size] = text.room();
    stream.next_out = reinterpret_cast<Bytef*>(to);
    stream.avail_out = static_cast<uInt>(size);
    const int status = ::inflate(&stream, Z_NO_FLUSH);
    text.used(size - stream.avail_out);
    if (status == Z_MEM_ERROR) throw std::bad_alloc();
    if (status == Z_STREAM_END) {
      if (stream.avail_in == 0) refill();
      // Another member follows, or bytes that belong to none, which gzip leaves alone.
      if (stream.avail_in < 2 || stream.next_in[0] != 0x1F || stream.next_in[1] != 0x8B) return text.take();
      if (inflateReset(&stream) != Z_OK) text.fail("damaged gzip data");
    } else if (status == Z_BUF_ERROR ||
               (status == Z_OK && stream.avail_in == 0 && bytes.empty() && stream.avail_out > 0)) {
      text.fail("cut gzip data: its end is missing");
    } else if (status != Z_OK) {
      text.fail(fmt::format("damaged gzip data{}{}", stream.msg == nullptr ? "" : ": ",
                            stream.msg == nullptr ? "" : stream.msg));
    }
  }
}

std::string inflate_zstd(std::string_view bytes, Text text) {
  const std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream(ZSTD_createDStream(), ZSTD_freeDStream);
  if (stream == nullptr) throw std::bad_alloc();
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  while (true) {
    const auto [to, size] = text.room();
    ZSTD_outBuffer out{to, size, 0};
    const std::size_t status = ZSTD_decompressStream(stream.get(), &out, &in);
    text.used(out.pos);
    if (ZSTD_isError(status) != 0) text.fail(fmt::format("damaged zstd data: {}", ZSTD_getErrorName(status)));
    if (in.pos < in.size || out.pos == out.size) continue;
    if (status != 0) text.fail("cut zstd data: its end is missing");
    return text.take();
  }
}

}  // namespace

bool is_compressed(std::string_view bytes) { return bytes.starts_with(gzip_magic) || bytes.starts_with(zstd_magic); }

std::string inflate(std::string_view bytes, const std::string& path, std::size_t most) {
  Text text(path, most);
  return bytes.starts_with(gzip_magic) ? inflate_gzip(bytes, std::move(text)) : inflate_zstd(bytes, std::move(text));
}

}  // namespace samformer::model
