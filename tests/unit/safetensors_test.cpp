// The safetensors reader and writer: exact bytes, round trips, every refusal, and 5,000 damaged files of one seed.
#include "model/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/scratch_folder.h"
#include "tests/shared_data.h"

namespace samformer::model {
namespace {

std::string file_of(std::string_view header, std::string_view data = {}) {
  std::uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes.append(header).append(data);
}

// The message of the refusal; empty where the bytes were accepted.
std::string refusal(const ScratchFolder& folder, std::string_view bytes) {
  write_atomic(folder / "file", bytes);
  try {
    Safetensors::open(folder / "file");
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code, Exit::data);
    EXPECT_EQ(error.file, (folder / "file").string());
    return error.what();
  }
}

struct Example {
  std::vector<float> weight{1, 2, 3, 4, 5, 6};
  std::vector<double> scale{0.5};
  std::vector<std::int64_t> step{-7};
  std::vector<std::int32_t> empty;
  std::vector<std::uint8_t> flags{1, 2, 255};

  std::vector<TensorSource> tensors() const {
    return {tensor_source("weight", {2, 3}, weight.data()), tensor_source("scale", {}, scale.data()),
            tensor_source("step", {1}, step.data()), tensor_source("empty", {0, 4}, empty.data()),
            tensor_source("a.flags", {3}, flags.data())};
  }
};

TEST(Safetensors, BytesAreExactlyTheFormat) {
  const ScratchFolder folder;
  const float value[] = {1.0F, -2.0F};
  const std::vector<TensorSource> tensors{tensor_source("w", {2}, value)};
  write_safetensors(folder / "file", tensors, {{"k", "v"}});
  std::string header = R"({"__metadata__":{"k":"v"},"w":{"data_offsets":[0,8],"dtype":"F32","shape":[2]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  EXPECT_EQ(read_file(folder / "file"), file_of(header, std::string_view("\x00\x00\x80\x3f\x00\x00\x00\xc0", 8)));
}

TEST(Safetensors, RoundTrip) {
  const ScratchFolder folder;
  const Example example;
  const Metadata metadata{{"config", "lr = 1\n\"q\""}, {"channels", "\xC3\xA9t\xC3\xA9"}};
  write_safetensors(folder / "file", example.tensors(), metadata);
  const Safetensors file = Safetensors::open(folder / "file");
  EXPECT_EQ(file.names(), (std::vector<std::string>{"a.flags", "empty", "scale", "step", "weight"}));
  EXPECT_EQ(file.metadata(), metadata);
  EXPECT_EQ(file.metadata("config"), metadata.at("config"));
  EXPECT_EQ(file.read<float>("weight"), example.weight);
  EXPECT_EQ(file.read<double>("scale"), example.scale);
  EXPECT_EQ(file.read<std::int64_t>("step"), example.step);
  EXPECT_EQ(file.read<std::int32_t>("empty"), example.empty);
  EXPECT_EQ(file.read<std::uint8_t>("a.flags"), example.flags);
  for (const auto& [name, tensor] : file.tensors())
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % (tensor.dtype == Dtype::u8 ? 1 : 4), 0u) << name;

  write_safetensors(folder / "none", {});
  EXPECT_TRUE(Safetensors::open(folder / "none").tensors().empty());
}

TEST(Safetensors, MetadataThatIsNoUtf8DoesNotCostTheFile) {
  const ScratchFolder folder;
  write_safetensors(folder / "file", Example().tensors(), {{"path", "caf\xE9"}});
  EXPECT_EQ(Safetensors::open(folder / "file").metadata("path"), "caf\xEF\xBF\xBD");
}

TEST(Safetensors, ReadSaysWhatWasExpectedAndFound) {
  const ScratchFolder folder;
  const Example example;
  write_safetensors(folder / "file", example.tensors());
  const Safetensors file = Safetensors::open(folder / "file");
  const auto message = [&](auto call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code, Exit::data);
      EXPECT_EQ(error.file, (folder / "file").string());
      return error.what();
    }
    return "nothing was thrown";
  };
  const std::vector<std::int64_t> right{2, 3}, swapped{3, 2}, longer{2, 3, 1};
  EXPECT_EQ(file.read<float>("weight", right), example.weight);
  EXPECT_EQ(message([&] { file.read<float>("weight", swapped); }),
            "tensor 'weight': F32 [3, 2] was expected, F32 [2, 3] was found");
  EXPECT_EQ(message([&] { file.read<float>("weight", longer); }),
            "tensor 'weight': F32 [2, 3, 1] was expected, F32 [2, 3] was found");
  EXPECT_EQ(message([&] { file.read<double>("weight", right); }),
            "tensor 'weight': F64 [2, 3] was expected, F32 [2, 3] was found");
  EXPECT_EQ(message([&] { file.tensor("bias"); }), "the tensor 'bias' is missing (5 others are there)");
  EXPECT_EQ(message([&] { file.metadata("config"); }), "the metadata 'config' are missing");
  std::vector<float> too_small(5);
  EXPECT_THROW(file.read<float>("weight", right, too_small), Error);
}

TEST(Safetensors, WriterRefusesNamesTwiceAndBadShapes) {
  const ScratchFolder folder;
  const float value[] = {1};
  for (const std::vector<TensorSource>& tensors :
       std::vector<std::vector<TensorSource>>{{tensor_source("w", {1}, value), tensor_source("w", {1}, value)},
                                              {tensor_source("__metadata__", {1}, value)},
                                              {tensor_source("w", {-1}, value)}})
    EXPECT_THROW(write_safetensors(folder / "file", tensors), Error);
  EXPECT_EQ(folder.entries(), 0);
}

TEST(Safetensors, EveryRefusal) {
  const ScratchFolder folder;
  const std::string data(8, '\0');
  const auto one = [](std::string_view description) { return fmt::format(R"({{"w":{}}})", description); };
  const std::string good = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  ASSERT_EQ(refusal(folder, file_of(one(good), data)), "");
  ASSERT_EQ(refusal(folder, file_of(one(good) + "  ", data)), "");

  const auto two = [](std::string_view a, std::string_view b) {
    return fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},)"
                       R"("b":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
                       a, b);
  };
  ASSERT_EQ(refusal(folder, file_of(two("[4,8]", "[0,4]"), data)), "");

  struct Case {
    std::string bytes, expected;
  };
  const std::string deep = "{" + std::string(200'000, '[');
  std::vector<Case> cases{
      {"", "at least 8"},
      {"1234567", "at least 8"},
      {std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10), "at most 100000000"},
      {file_of("{}").substr(0, 9), "ends inside its header"},
      {file_of(""), "does not start with '{'"},
      {file_of(" {}"), "does not start with '{'"},
      {file_of("\xEF\xBB\xBF{}"), "does not start with '{'"},
      {file_of("[]"), "does not start with '{'"},
      {file_of("{"), "not valid UTF-8 JSON"},
      {file_of("{} x"), "not valid UTF-8 JSON"},
      {file_of(std::string_view("{}\0 x", 5)), "zero byte"},
      {file_of("{\"\xff\":1}"), "not valid UTF-8 JSON"},
      {file_of(deep), "not valid UTF-8 JSON"},
      {file_of("{\"w\":" + std::string(200'000, '[')), "where a tensor's description"},
      {file_of("{\"w\":" + std::string(200'000, '{')), "not valid UTF-8 JSON"},
      {file_of(one("1"), data), "where a tensor's description"},
      {file_of(one("null"), data), "where a tensor's description"},
      {file_of(one("{}"), data), "lacks"},
      {file_of(R"({"__metadata__":{"k":1}})"), "where a tensor's description"},
      {file_of(R"({"__metadata__":{"k":{}}})"), "where a tensor's description"},
      {file_of(R"({"__metadata__":{"k":"a","k":"b"}})"), "metadata 'k' occurs twice"},
      {file_of(R"({"__metadata__":{},"__metadata__":{}})"), "'__metadata__' occurs twice"},
      {file_of(fmt::format(R"({{"w":{0},"w":{0}}})", good), data), "'w' occurs twice"},
      {file_of(one(R"({"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]})"), data), "dtype occurs twice"},
      {file_of(one(R"({"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]})"), data), "shape occurs twice"},
      {file_of(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1})"), data), "unknown key 'x'"},
      {file_of(one(R"({"dtype":"BF16","shape":[4],"data_offsets":[0,8]})"), data), "has the type 'BF16'"},
      {file_of(one(R"({"dtype":["F32"],"shape":[2],"data_offsets":[0,8]})"), data), "where a tensor's description"},
      {file_of(one(R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})"), data), "where a tensor's description"},
      {file_of(one(R"({"dtype":"F32","shape":[[2]],"data_offsets":[0,8]})"), data), "where a tensor's description"},
      {file_of(one(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), data), "the number -2"},
      {file_of(one(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"), data), "the number 2.0"},
      {file_of(one(R"({"dtype":"F32","shape":[1e999],"data_offsets":[0,8]})"), data), "not valid UTF-8 JSON"},
      {file_of(one(R"({"dtype":"F32","shape":["2"],"data_offsets":[0,8]})"), data), "where a tensor's description"},
      {file_of(one(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]})"), data), "too large"},
      {file_of(one(R"({"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]})"), data), "the number"},
      {file_of(one(R"({"dtype":"F32","shape":[4611686018427387904,4,2],"data_offsets":[0,8]})"), data),
       "does not have 8 bytes"},
      {file_of(one(R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]})"), data),
       "more than 8 numbers"},
      {file_of(one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"), data), "does not have 8 bytes"},
      {file_of(one(R"({"dtype":"F64","shape":[2],"data_offsets":[0,8]})"), data), "does not have 8 bytes"},
      {file_of(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"), data), "has 1 numbers"},
      {file_of(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,9]})"), data), "more than 2 numbers"},
      {file_of(one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), data), "are bytes 8 to 0 of 8"},
      {file_of(one(good), data.substr(1)), "are bytes 0 to 8 of 7"},
      {file_of(one(good), data + "x"), "1 bytes follow the last tensor"},
      {file_of("{}", "x"), "1 bytes follow the last tensor"},
      {file_of(two("[0,4]", "[2,6]"), data), "overlap"},
      {file_of(two("[0,4]", "[0,4]"), data), "overlap"},
      {file_of(two("[0,4]", "[5,9]"), data + "x"), "leave a hole"},
      {file_of(one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"), data), "leave a hole"},
  };
  for (const Case& c : cases) {
    const std::string found = refusal(folder, c.bytes);
    EXPECT_NE(found.find(c.expected), std::string::npos) << "expected: " << c.expected << "\nfound: " << found;
  }
  const std::string loud = refusal(folder, file_of("{\"\\u001b[31m" + std::string(1000, 'n') + "\":1}"));
  EXPECT_EQ(loud.find('\x1b'), std::string::npos);
  EXPECT_LT(loud.size(), 400u);
}

TEST(Safetensors, MissingFileAndFolder) {
  const ScratchFolder folder;
  for (const std::filesystem::path& path : {folder / "missing", folder.path()}) {
    try {
      Safetensors::open(path);
      FAIL() << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.code, Exit::data);
    }
  }
}

TEST(Safetensors, DamagedFilesAreReadOrRefusedNeverMore) {
  constexpr std::uint32_t seed = 20240301;
  RecordProperty("seed", static_cast<int>(seed));
  const ScratchFolder folder;
  write_safetensors(folder / "good", Example().tensors(), {{"config", "lr = 1"}});
  const std::string good = read_file(folder / "good");
  std::uint64_t header_length = 0;
  std::memcpy(&header_length, good.data(), sizeof(header_length));
  const std::size_t header_end = good.rfind('}', 8 + header_length) + 1;
  std::mt19937 random(seed);
  const auto below = [&](std::size_t n) { return std::uint64_t{random()} * n >> 32; };  // 32 random bits
  constexpr std::string_view alphabet = "{}[]\",:0123456789-.eE \\u_FIU";
  int accepted = 0, refused = 0;
  for (int i = 0; i < 5'000; ++i) {
    std::string bytes = good;
    for (std::size_t edits = 1 + below(3); edits > 0 && !bytes.empty(); --edits) {
      const std::size_t place = below(below(4) == 0 ? bytes.size() : std::min(header_end, bytes.size()));
      switch (below(6)) {
        case 0:
          bytes[place] = static_cast<char>(below(256));
          break;
        case 1:
          bytes[place] = alphabet[below(alphabet.size())];
          break;
        case 2:
          bytes.insert(place, 1, alphabet[below(alphabet.size())]);
          break;
        case 3:
          bytes.erase(place, 1 + below(4));
          break;
        case 4:
          bytes.insert(place, bytes.substr(below(bytes.size()), below(40)));
          break;
        default:
          bytes.resize(std::max<std::size_t>(place, 1));
      }
      // Half of the edits keep the announced length true, so that they reach the JSON.
      if (bytes.size() > 8 && below(2) == 0) {
        const std::size_t grown = bytes.size() + header_length;
        const std::uint64_t length = std::min(bytes.size() - 8, grown - std::min(grown, good.size()));
        std::memcpy(bytes.data(), &length, sizeof(length));
      }
    }
    // No flush to the disk here: write_atomic would make this the slowest test of all.
    std::FILE* const out = std::fopen((folder / "bad").c_str(), "wb");
    ASSERT_NE(out, nullptr);
    std::fwrite(bytes.data(), 1, bytes.size(), out);
    std::fclose(out);
    try {
      const Safetensors file = Safetensors::open(folder / "bad");
      for (const auto& [name, tensor] : file.tensors())
        if (tensor.dtype == Dtype::f32) file.read<float>(name);
      ++accepted;
    } catch (const Error& error) {
      ASSERT_EQ(error.code, Exit::data) << error.what() << " seed " << seed << " case " << i;
      ++refused;
    }
  }
  EXPECT_GT(accepted, 100) << "the damage is too coarse to test anything but the JSON parser";
  EXPECT_GT(refused, 2'000);
}

TEST(Safetensors, ReadsWhatTheOfficialLibraryWrote) {
  SAMFORMER_REQUIRE_SHARED_DATA("golden");
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(shared_data("golden"))) {
    if (entry.path().extension() != ".safetensors") continue;
    ++files;
    const Safetensors file = Safetensors::open(entry.path());
    EXPECT_FALSE(file.tensors().empty()) << entry.path();
  }
  EXPECT_GT(files, 0);
}

}  // namespace
}  // namespace samformer::model
