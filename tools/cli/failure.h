// What a command has failed with, whoever ran it: the program or the library.
#pragma once

#include <string>

#include "core/error.h"

namespace samformer::tools {

// The exception that is being handled, in a `catch (...)`, as an Error.
Error current_failure();
Error out_of_memory();

// "place: message", and the hint on a line of its own.
std::string error_block(const Error& error);

}  // namespace samformer::tools
