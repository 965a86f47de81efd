#include "tools/commands/commands.h"

// One line a command: the function in its file that returns its row.
#define SAMFORMER_COMMANDS(row)                                                                                      \
  row(forecast_command) row(train_command) row(eval_command) row(predict_command) row(export_command)                \
      row(sharpness_command) row(attention_command) row(landscape_command) row(sweep_command) row(reproduce_command) \
          row(backtest_command) row(data_check_command) row(data_repair_command) row(data_synth_command)             \
              row(data_list_command) row(data_fetch_command) row(toy_command) row(doctor_command)                    \
                  row(completion_command) row(bench_command) row(profile_command)

namespace samformer::tools {

#define SAMFORMER_DECLARE(name) Command name();
SAMFORMER_COMMANDS(SAMFORMER_DECLARE)
#undef SAMFORMER_DECLARE

std::span<const Command> commands() {
  static const std::vector<Command> rows = [] {
#define SAMFORMER_CALL(name) name(),
    std::vector<Command> all = {SAMFORMER_COMMANDS(SAMFORMER_CALL)};
#undef SAMFORMER_CALL
    for (Command& command : all) {
      for (const Option& option : command.options) command.takes.push_back(option.name);
    }
    return all;
  }();
  return rows;
}

}  // namespace samformer::tools
