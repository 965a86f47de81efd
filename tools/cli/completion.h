// What a shell offers behind `samformer` and the Tab key: commands, their flags, the values of flags that have few, and
// files. Made of the tables of commands and options, so that it is never behind them.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "tools/cli/command.h"

namespace samformer::tools {

inline constexpr std::string_view shells[] = {"bash", "zsh", "fish"};
// The script for one of `shells`; Exit::usage for another one.
std::string completion(std::string_view shell, std::span<const Command> commands);

}  // namespace samformer::tools
