// A checkpoint as `eval` and `predict` load it, and a state as `train --resume` first looks at it: the input is the
// .safetensors file of both.
#include <cstring>

#include "tests/fuzz/fuzz.h"
#include "tools/run/run_folder.h"

namespace samformer::tools {
namespace {

void read(std::string_view text) {
  const std::filesystem::path& folder = fuzz::folder();
  for (const char* name : {"best.safetensors", "state.safetensors"}) fuzz::put(folder / name, text);
  fuzz::result_or_refusal([&] { training_done(folder, {}); });
  const Checkpoint checkpoint = read_run(folder.string(), "best").at(0);
  const auto D = static_cast<std::int64_t>(checkpoint.columns.size());
  fuzz::require(D > 0 && std::ssize(checkpoint.scaler.mean) == D && std::ssize(checkpoint.scaler.std) == D,
                "a mean and a deviation for each column");
  fuzz::require(std::ssize(checkpoint.slab) == checkpoint.model.parameters().slab_size(), "all weights");
  series_options(checkpoint, checkpoint.settings);
}

}  // namespace
}  // namespace samformer::tools

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  samformer::fuzz::result_or_refusal([&] { samformer::tools::read(samformer::fuzz::text_of(data, size)); });
  return 0;
}

#ifdef SAMFORMER_FUZZ
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

// Mutates the JSON header and sets its length again; without that hardly an input would get past the first 8 bytes.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most,
                                               unsigned int seed) {
  std::uint64_t header = 0;
  constexpr std::size_t prefix = sizeof header;
  if (size > prefix) std::memcpy(&header, data, prefix);
  if (seed % 8 == 0 || header == 0 || header > size - prefix) return LLVMFuzzerMutate(data, size, most);
  const std::string values(reinterpret_cast<const char*>(data) + prefix + header, size - prefix - header);
  header = LLVMFuzzerMutate(data + prefix, header, most - prefix - values.size());
  std::memcpy(data, &header, prefix);
  std::memcpy(data + prefix + header, values.data(), values.size());
  return prefix + header + values.size();
}
#endif
