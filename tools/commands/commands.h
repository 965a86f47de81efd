// The list of the program's commands.
#pragma once

#include <span>

#include "tools/cli/command.h"

namespace samformer::tools {

// In the order of help.
std::span<const Command> commands();

}  // namespace samformer::tools
