// Command line, environment and configuration file. The input is a command line as a shell would have it (words between
// spaces, SAMFORMER_FLAG=VALUE for the environment before them; empty: train), then the TOML file of its --config.
#include <sstream>

#include "tests/fuzz/fuzz.h"
#include "tools/cli/command_line.h"
#include "tools/commands/commands.h"

namespace samformer::tools {
namespace {

void read(std::string_view text) {
  std::istringstream line(fuzz::take_line(text));
  Environment environment;
  std::vector<std::string> words;
  for (std::string word; line >> word;) {
    const std::size_t equals = word.find('=');
    if (words.empty() && word.starts_with("SAMFORMER_") && equals != std::string::npos) {
      environment.emplace(word.substr(0, equals), word.substr(equals + 1));
    } else {
      words.push_back(word);
    }
  }
  CommandLine asked;
  if (words.empty()) {  // without a parser to be built, many times as fast
    asked.command = &commands()[0];
  } else {
    asked = parse_command_line(commands(), words);
  }
  if (asked.help) help_text(commands(), asked.command);
  if (!asked.command || asked.help) return;
  // Files that the input names may be anything.
  for (const auto& [name, value] : asked.flags) {
    if (name == "config" || name == "resume") return;
  }
  environment.erase("SAMFORMER_CONFIG");
  environment.erase("SAMFORMER_RESUME");
  if (!text.empty()) {
    const std::filesystem::path file = fuzz::folder() / "config.toml";
    fuzz::put(file, text);
    asked.flags.emplace_back("config", file.string());
  }
  const Resolved resolved = resolve(asked.flags, environment, asked.command->takes);
  to_json(resolved);
  to_toml(resolved);
  const std::string stored = to_toml(resolved.settings);
  fuzz::require(to_toml(settings_from_toml(stored, "config.toml")) == stored, "settings are read as written");
}

}  // namespace
}  // namespace samformer::tools

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  samformer::fuzz::result_or_refusal([&] { samformer::tools::read(samformer::fuzz::text_of(data, size)); });
  return 0;
}
