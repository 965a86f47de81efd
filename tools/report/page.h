// report.html: one self-contained page (inline SVG, no network), readable on a phone, light and dark, and without its
// one small script, which draws the channel that is picked.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tools/cli/document.h"
#include "tools/commands/commands.h"
#include "tools/run/run_folder.h"

namespace samformer::tools {

class Report {
 public:
  // `title` heads the page, `line` says in one sentence what it shows.
  Report(std::string title, std::string line);

  void heading(const std::string& text);
  void paragraph(const std::string& text);
  // Big numbers, name and value.
  void figures(const std::vector<std::pair<std::string, std::string>>& values);
  // Charts of tools/report/svg.h side by side where there is room.
  void charts(const std::vector<std::string>& svg);
  void gallery(const std::string& html);
  // All columns but the first are numbers, right-aligned. `folded`: closed until it is opened.
  void table(const std::vector<std::string>& names, const std::vector<std::vector<std::string>>& rows,
             const std::string& folded = {});
  void link(const std::string& text, const std::string& target);

  std::string html() const;
  void write(const std::filesystem::path& folder) const;  // folder/report.html

 private:
  std::string title_, body_;
};

// Table and charts of a document's errors: of the model and the baselines, by step and channel.
void add_errors(Report& report, const Json& document);
// The settings of a run, folded.
void add_settings(Report& report, const Settings& settings);

// report.html of `train` or `eval`: the forecast ahead (of `train --refit` by the refitted weights) and that of
// the last window at `starts`, errors by step and channel beside the baselines, course of the training (`metrics`:
// metrics.jsonl, may be missing), attention, settings. `document` is the command's own.
void write_run_report(const std::filesystem::path& folder, const Json& document, const std::filesystem::path& metrics,
                      const Settings& settings, const Experiment& experiment, std::span<const Checkpoint> models,
                      std::span<const std::int32_t> starts);
// Of `eval`, into output_folder(); a run that cannot be written to (and no --out) has none, which is said.
void write_eval_report(const Invocation& invocation, const Json& document, std::span<const Checkpoint> models,
                       const Settings& settings, const Experiment& experiment, std::span<const std::int32_t> starts);
// Of several seeds: their errors side by side, links to the reports of each.
void write_seeds_report(const std::filesystem::path& folder, const Json& document);

}  // namespace samformer::tools
