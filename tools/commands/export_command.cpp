// `samformer export RUN`: a run's model as an ONNX file (model/onnx.h), for runtimes that know nothing of samformer.
#include "core/io/file.h"
#include "model/onnx.h"
#include "tools/cli/command.h"
#include "tools/run/automatic.h"
#include "tools/run/run_folder.h"

namespace samformer::tools {
namespace {

namespace fs = std::filesystem;

int export_run(const Invocation& invocation) {
  const Settings& settings = invocation.settings;
  std::vector<Checkpoint> runs = read_run_to_keep(invocation.arguments[0], settings.weights);
  choose_member(runs, settings.member);
  const Checkpoint& run = runs.front();
  if (runs.size() > 1) {
    throw Error(Exit::usage, fmt::format("'{}' has {} models, an ONNX file one", invocation.arguments[0], runs.size()))
        .hint(run.member.empty() ? fmt::format("name one of them: {}", run.path.parent_path().string())
                                 : "choose one with --member " + run.member);
  }
  if (run.panel) {
    throw Error(Exit::usage, "a panel's model has no ONNX form: each series has a scale of its own")
        .at(run.path.string());
  }
  Json targets = Json::array();
  for (const std::int32_t t : run.targets) targets.push_back(run.columns[static_cast<std::size_t>(t)]);
  const std::string version = document("export")["version"];
  const model::Metadata metadata = {
      {"channels", Json(run.columns).dump()}, {"targets", targets.dump()},    {"step", run.step},
      {"trained_until", run.trained_until},   {"weights_sha256", run.sha256}, {"samformer", version}};
  const std::string bytes =
      model::to_onnx({run.model, run.slab, run.scaler, center_of(run.settings), run.targets, metadata});
  const fs::path file = settings.out.empty() ? run.path.parent_path() / "model.onnx" : fs::path(settings.out);
  write_atomic(file, bytes);

  const model::Sizes shape = run.model.shape();
  if (settings.json) {
    Json d = document("export");
    d["onnx"] = file.string();
    d["bytes"] = bytes.size();
    d["model"] = run.settings.model;
    d["input"] = {{"name", "values"}, {"shape", {nullptr, shape.L, shape.D}}, {"channels", run.columns}};
    d["output"] = {{"name", "forecast"}, {"shape", {nullptr, shape.H, run.targets.size()}}, {"channels", targets}};
    d["weights_sha256"] = run.sha256;
    print(d, invocation.out);
  } else {
    invocation.out << fmt::format("{}: values [batch, {}, {}] -> forecast [batch, {}, {}], float32 in original units\n",
                                  file.string(), shape.L, shape.D, shape.H, run.targets.size());
  }
  return 0;
}

}  // namespace

Command export_command() {
  return {.name = "export",
          .handler = export_run,
          .takes = {"weights", "member", "out"},
          .arguments = {"RUN"},
          .summary = "writes a run's model as an ONNX file, scaler and RevIN inside",
          .example = "samformer export runs/etth1 --out etth1.onnx",
          .texts = {{"weights", "best: the tested ones; final: refitted on all rows", "final if there"},
                    {"out", "the ONNX file", "RUN/model.onnx"}}};
}

}  // namespace samformer::tools
