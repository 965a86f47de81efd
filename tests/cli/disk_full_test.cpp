// A disk that is full: exit 7 with words that help, the files of before intact, and training goes on once there is
// room. RLIMIT_FSIZE stands for it everywhere; a small tmpfs where mounting is permitted.
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "tests/cli_fixture.h"

namespace samformer {
namespace {

namespace fs = std::filesystem;

class DiskFull : public ProgramTest {
 protected:
  static Surroundings files_up_to(rlim_t bytes) {
    Surroundings s;
    s.in_child = [bytes] {
      const rlimit limit{bytes, bytes};
      setrlimit(RLIMIT_FSIZE, &limit);
    };
    return s;
  }
  std::map<std::string, std::string> contents(const std::string& folder) const {
    std::map<std::string, std::string> result;
    for (const auto& entry : fs::directory_iterator(scratch_ / folder)) {
      result[entry.path().filename()] = read_file(entry.path());
    }
    return result;
  }

  // A run of 3 epochs is to have 8; `full` makes the disk so full that the next state does not fit, `free` undoes it.
  void survives(const std::string& folder, const Surroundings& full, const std::function<void()>& free) {
    const auto before = contents(folder);
    const Outcome o = run({"train", "--resume", path(folder), "--epochs", "8", "--json"}, full);
    SCOPED_TRACE(o.err);
    EXPECT_EQ(o.code, 7);
    EXPECT_EQ(o.json()["error"]["exit_code"], 7);
    EXPECT_EQ(o.json()["error"]["kind"], "io");
    EXPECT_NE(o.err.find("safetensors"), std::string::npos);
    EXPECT_NE(o.err.find("free "), std::string::npos);
    const auto after = contents(folder);
    EXPECT_EQ(after.at("state.safetensors"), before.at("state.safetensors"));
    EXPECT_NO_THROW(model::Safetensors::open(scratch_ / folder / "best.safetensors"));
    for (const auto& [name, text] : after) EXPECT_TRUE(before.contains(name)) << name << " was left behind";
    free();
    EXPECT_EQ(run({"eval", path(folder)}).code, 0);
    const Json d = document({"train", "--resume", path(folder)});
    const Json whole = document(small("whole", {"--epochs", "8"}));
    EXPECT_EQ(d["weights_sha256"], whole["weights_sha256"]);
    EXPECT_EQ(read(folder + "/metrics.jsonl"), read("whole/metrics.jsonl"));
  }
};

TEST_F(DiskFull, LimitedFiles) {
  EXPECT_EQ(run(small("run", {"--epochs", "3"})).code, 0);
  survives("run", files_up_to(fs::file_size(scratch_ / "run/best.safetensors") + 100), [] {});
}

TEST_F(DiskFull, FromTheFirstEpochOn) {
  // Room for config.toml but not for weights.
  fails(7, small("run", {"--overwrite"}), {"best.safetensors", "free "}, files_up_to(8000));
  EXPECT_FALSE(exists("run/best.safetensors"));
  const Json d = document({"train", "--resume", path("run")});
  EXPECT_EQ(d["weights_sha256"], document(small("whole"))["weights_sha256"]);
  fails(7, small("none", {"--overwrite"}), {"config.toml"}, files_up_to(10));
}

TEST_F(DiskFull, SmallTmpfs) {
  fs::create_directory(scratch_ / "disk");
  if (::mount("tmpfs", path("disk").c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  }
  struct Unmount {
    std::string path;
    ~Unmount() { ::umount2(path.c_str(), MNT_DETACH); }
  } const unmount{path("disk")};
  EXPECT_EQ(run(small("disk/run", {"--epochs", "3"})).code, 0);
  struct statvfs room {};
  ASSERT_EQ(::statvfs(path("disk").c_str(), &room), 0);
  std::ofstream(path("disk/filler")) << std::string(room.f_bavail * room.f_bsize - 2 * room.f_bsize, 'x');
  survives("disk/run", {}, [&] { fs::remove(path("disk/filler")); });
}

TEST_F(DiskFull, StandardOutput) {
  Surroundings full, closed;
  full.out = "/dev/full";
  closed.out = "closed";
  EXPECT_EQ(run(small("full"), full).code, 7);
  // The training itself is complete: its result is printed by --resume.
  EXPECT_EQ(run({"train", "--resume", path("full")}).code, 0);
  const Outcome o = run(small("closed"), closed);
  EXPECT_EQ(o.code, 7);
  EXPECT_NE(o.err.find("standard output is closed"), std::string::npos) << o.err;
  EXPECT_FALSE(exists("closed"));
  for (const std::string command : {"eval", "predict"}) {
    for (const Words& more : {Words{}, Words{"--json"}}) {
      EXPECT_EQ(run(Words{command, path("full")} + more, full).code, 7) << command;
      EXPECT_EQ(run(Words{command, path("full")} + more, closed).code, 7) << command;
    }
  }
  fails(7, {"predict", path("full"), "--out", path("forecast.csv")}, {"forecast.csv", "free "}, files_up_to(20));
  EXPECT_FALSE(exists("forecast.csv"));
}

}  // namespace
}  // namespace samformer
