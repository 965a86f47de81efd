// doctor from outside: its lines, their statuses, the exit code, the document.
#include <gtest/gtest.h>

#include <set>

#include "kernels/cpu/bf16.h"
#include "tests/cli_fixture.h"

namespace samformer {
namespace {

using Doctor = ProgramTest;

TEST_F(Doctor, EveryLineIsOkOrWarnOnAHealthyMachine) {
  const Outcome text = run({"doctor"});
  EXPECT_EQ(text.code, 0) << text.out << text.err;
  EXPECT_EQ(text.err, "");
  const Outcome json = run({"doctor", "--json"});
  EXPECT_EQ(json.code, 0) << json.out;
  const Json document = json.json();
  ASSERT_TRUE(document.is_object()) << json.out;
  EXPECT_EQ(document.at("schema_version"), 1);
  EXPECT_EQ(document.at("command"), "doctor");
  EXPECT_EQ(document.at("ok"), true);
  EXPECT_FALSE(document.contains("error"));
  std::set<std::string> names;
  for (const Json& line : document.at("lines")) {
    const std::string name = line.at("name");
    names.insert(name.starts_with("cuda:") ? "cuda" : name);  // a line a GPU, or one that says why there is none
    EXPECT_TRUE(line.at("status") == "OK" || line.at("status") == "WARN") << line;
    EXPECT_FALSE(line.at("message").get<std::string>().empty());
    EXPECT_NE(text.out.find(line.at("name").get<std::string>()), std::string::npos);
    if (line.at("name").get<std::string>().starts_with("product") &&
        (line.at("name") != "product bf16" || kernels::bf16_available())) {
      EXPECT_GT(line.at("gflops"), 0);
    }
    if (line.at("name") == "memory copy") {
      EXPECT_GT(line.at("gigabytes_per_second"), 0);
    }
    if (line.at("name") == "gradients") {
      EXPECT_TRUE(line.at("low_rank_error") <= 1e-12 && line.at("full_error") <= 1e-12) << line;
    }
  }
  for (const char* name :
       {"cpu", "cuda", "CPU features", "threads", "oneDNN", "OpenMP", "OpenSSL", "libcurl", "compiler",
        "product forward", "product backward", "product bf16", "memory copy", "gradients", "same bits", "files"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
}

TEST_F(Doctor, AFailingLineGivesExitCode6) {
  const Surroundings broken{.environment = {{"TMPDIR", "/nonexistent"}}};
  const Outcome text = run({"doctor"}, broken);
  EXPECT_EQ(text.code, 6);
  EXPECT_NE(text.out.find("FAIL  files"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("failed: files"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("TMPDIR"), std::string::npos) << "says what to do";
  const Outcome json = run({"doctor", "--json"}, broken);
  EXPECT_EQ(json.code, 6);
  EXPECT_EQ(json.json().at("ok"), false);
  EXPECT_EQ(json.json().at("error").at("exit_code"), 6);
  EXPECT_EQ(json.json().at("error").at("kind"), "check");
}

TEST_F(Doctor, ThreadsAreSaidAndTooManyWarned) {
  const auto threads = [&](const std::string& count) {
    const Json document = run({"doctor", "--json", "--threads", count}).json();
    for (const Json& line : document.value("lines", Json::array())) {
      if (line.at("name") == "threads") return line;
    }
    return Json();
  };
  EXPECT_EQ(threads("1").value("threads", 0), 1);
  EXPECT_EQ(threads("1").value("status", ""), "OK");
  EXPECT_EQ(threads("300").value("status", ""), "WARN");
}

}  // namespace
}  // namespace samformer
