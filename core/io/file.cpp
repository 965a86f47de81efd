#include "core/io/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <system_error>
#include <vector>

namespace samformer {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view temporary_prefix = ".samformer.", temporary_suffix = ".tmp";

std::string words(int error) { return std::generic_category().message(error); }

std::string write_hint(int error, std::uint64_t bytes, const fs::path& folder) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return fmt::format("free {} bytes on the disk of '{}', or choose a folder elsewhere", bytes, folder.string());
    case EFBIG:
      return fmt::format("free {} bytes: the limit on the size of a file (ulimit -f) or of this file system is reached",
                         bytes);
    case EACCES:
    case EPERM:
    case EROFS:
      return fmt::format("'{}' cannot be written to: choose a folder that can", folder.string());
    case ENOENT:
      return fmt::format("create the folder '{}' first", folder.string());
    case ELOOP:
      return "nothing is written through a symbolic link in a run's folder: remove the link, and start again";
    default:
      return fmt::format("check the folder '{}' and its disk", folder.string());
  }
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

[[noreturn]] void write_failed(const fs::path& path, std::string_view action, int error, std::uint64_t bytes) {
  const std::string amount = bytes > 0 ? fmt::format(" ({} bytes)", bytes) : "";
  throw Error(Exit::io, fmt::format("cannot {}{}: {}", action, amount, words(error)))
      .at(path.string())
      .hint(write_hint(error, bytes, folder_of(path)));
}

// Retries where a signal came in between.
template <typename Call>
auto retried(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// What stops a read, or the file of a given exit code itself: its disk, our limits, or that it is not there.
Exit reading_failure(int error, Exit otherwise) {
  switch (error) {
    case EIO:
    case ENXIO:
    case ENODEV:
    case ESTALE:
    case ETIMEDOUT:
    case EMFILE:
    case ENFILE:
      return Exit::io;
    case ENOMEM:
      return Exit::device;
    default:
      return otherwise;
  }
}

void require_no_input(const fs::path& path) {
  struct stat status {};
  const std::vector<InputFile>& inputs = never_replaced();
  if (inputs.empty() || ::stat(path.c_str(), &status) != 0) return;
  const auto same = [&](const InputFile& i) { return i.device == status.st_dev && i.number == status.st_ino; };
  if (std::ranges::none_of(inputs, same)) return;
  throw Error(Exit::usage, "this is an input of this command, it would be replaced")
      .at(path.string())
      .hint("nothing has been written there; choose another --out");
}

// Opens a file of a folder for writing. Without O_NONBLOCK a pipe in its place would hang.
Descriptor open_to_write(const fs::path& path, int flags, std::string_view action, std::uint64_t bytes = 0) {
  require_no_input(path);
  flags |= O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  Descriptor file(retried([&] { return ::open(path.c_str(), flags, 0666); }));
  if (file.get() < 0) write_failed(path, action, errno, bytes);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) write_failed(path, action, errno, bytes);
  if (!S_ISREG(status.st_mode)) {
    throw Error(Exit::io, fmt::format("cannot {}: no regular file", action))
        .at(path.string())
        .hint("a device, pipe or socket has the name of a run's file: remove it, and start again");
  }
  return file;
}

// Whether the path names this very file.
bool is_at(const Descriptor& file, const fs::path& path) {
  struct stat ours {
  }, there{};
  return ::fstat(file.get(), &ours) == 0 && ::lstat(path.c_str(), &there) == 0 && ours.st_dev == there.st_dev &&
         ours.st_ino == there.st_ino;
}

// 0, or the errno that stopped it.
int write_all(int fd, Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t written = retried([&] { return ::write(fd, bytes.data(), bytes.size()); });
    if (written < 0) return errno;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return 0;
}

bool is_temporary(std::string_view name) {
  return name.size() > temporary_prefix.size() + temporary_suffix.size() && name.starts_with(temporary_prefix) &&
         name.ends_with(temporary_suffix);
}

Descriptor open_to_read(const fs::path& path, int flags, mode_t& kind, std::uint64_t& size, Exit on_failure) {
  Descriptor file(retried([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags); }));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
    const int error = errno;
    const Exit code = reading_failure(error, on_failure);
    throw Error(code, fmt::format("cannot open this file: {}", words(error)))
        .at(path.string())
        .hint(error == ENOENT || error == ENOTDIR ? "check the spelling and the folder"
              : error == EACCES                   ? "you have no permission to read it"
              : code == Exit::io                  ? "check the disk it lies on, and the limits (ulimit -n)"
                                                  : "check that it is a readable file");
  }
  kind = status.st_mode & S_IFMT;
  size = static_cast<std::uint64_t>(status.st_size);
  if (kind == S_IFDIR)
    throw Error(on_failure, "a file was expected, this is a folder").at(path.string()).hint("name a file inside it");
  return file;
}

[[noreturn]] void not_regular(const fs::path& path, std::string_view expected, Exit on_failure) {
  throw Error(on_failure, fmt::format("{} was expected, this is a device, pipe or socket", expected))
      .at(path.string())
      .hint("copy its content to a file first");
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

AtomicFile::AtomicFile(fs::path path, std::uint64_t total) : path_(std::move(path)), total_(total) {
  require_no_input(path_);
  // Thread ids are unique among all live threads of the machine: a temporary of the same name is a dead process's.
  temporary_ = folder_of(path_) / fmt::format("{}{}{}", temporary_prefix, ::gettid(), temporary_suffix);
  ::unlink(temporary_.c_str());
  file_ =
      Descriptor(retried([&] { return ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); }));
  if (file_.get() < 0) write_failed(path_, "create a file in its folder", errno, total_);
}

AtomicFile::~AtomicFile() {
  if (file_.get() >= 0) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(std::string_view action, int error) {
  ::unlink(temporary_.c_str());
  file_ = Descriptor();
  write_failed(path_, action, error, total_);
}

void AtomicFile::write(Bytes bytes) {
  if (const int error = write_all(file_.get(), bytes); error != 0) fail("write", error);
}

void AtomicFile::commit() {
  if (retried([&] { return ::fsync(file_.get()); }) != 0) fail("flush to the disk", errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename the finished file to this name", errno);
  file_ = Descriptor();
  const fs::path folder = folder_of(path_);
  const Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some file systems cannot flush folders and say EINVAL; a folder without read permission cannot be opened for it.
  if (directory.get() >= 0 && retried([&] { return ::fsync(directory.get()); }) != 0 && errno != EINVAL)
    write_failed(path_, "flush its folder to the disk", errno, total_);
}

void write_atomic(const fs::path& path, std::span<const Bytes> parts) {
  std::uint64_t total = 0;
  for (const Bytes part : parts) total += part.size();
  AtomicFile file(path, total);
  for (const Bytes part : parts) file.write(part);
  file.commit();
}

void write_atomic(const fs::path& path, std::string_view text) {
  const std::array parts{bytes_of(text)};
  write_atomic(path, parts);
}

Descriptor open_emptied(const fs::path& path) {
  return open_to_write(path, O_WRONLY | O_CREAT | O_TRUNC, "open for writing");
}

void copy_atomic(const fs::path& from, const fs::path& to) {
  const MappedFile content(from);
  const std::array parts{content.bytes()};
  write_atomic(to, parts);
}

std::vector<InputFile>& never_replaced() {
  static thread_local std::vector<InputFile> inputs;
  return inputs;
}

void never_replace(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
    never_replaced().push_back({status.st_dev, status.st_ino});
  }
}

void require_no_input(const fs::path& folder, std::span<const char* const> names) {
  for (const char* name : names) require_no_input(folder / name);
}

fs::path make_folders(const fs::path& root, const fs::path& relative) {
  std::error_code error;
  fs::create_directories(root, error);
  fs::path folder = root;
  if (!error && !fs::is_directory(root, error)) error = std::make_error_code(std::errc::not_a_directory);
  for (auto part = relative.begin(); !error && part != relative.end(); ++part) {
    folder /= *part;
    fs::create_directory(folder, error);
    if (error) break;
    const fs::file_status status = fs::symlink_status(folder, error);
    if (!error && status.type() != fs::file_type::directory) error.assign(ELOOP, std::generic_category());
  }
  if (error) {
    throw Error(Exit::io, fmt::format("cannot create the folder: {}", error.message()))
        .at(folder.string())
        .hint(error.value() == ELOOP ? write_hint(ELOOP, 0, folder) : "choose another folder with --out");
  }
  return folder;
}

void remove_temporaries(const fs::path& folder) {
  std::error_code ignored;
  for (fs::directory_iterator entry(folder, ignored), end; !ignored && entry != end; entry.increment(ignored))
    if (is_temporary(entry->path().filename().native())) ::unlink(entry->path().c_str());
}

AppendFile::AppendFile(fs::path path) : path_(std::move(path)) {
  file_ = open_to_write(path_, O_RDWR | O_CREAT | O_APPEND, "open for appending");
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) write_failed(path_, "open for appending", errno, 0);
  size_ = static_cast<std::uint64_t>(status.st_size);
}

bool AppendFile::restore() {
  if (is_at(file_, path_)) return false;
  std::string content(static_cast<std::size_t>(size_), '\0');
  for (std::size_t done = 0; done < content.size();) {
    const ssize_t count = retried(
        [&] { return ::pread(file_.get(), content.data() + done, content.size() - done, static_cast<off_t>(done)); });
    if (count <= 0) write_failed(path_, "read back a file that was removed", count < 0 ? errno : EIO, size_);
    done += static_cast<std::size_t>(count);
  }
  write_atomic(path_, content);
  *this = AppendFile(path_);
  return true;
}

void AppendFile::append_line(std::string_view line) {
  char end = '\n';
  const std::array<iovec, 2> parts{iovec{const_cast<char*>(line.data()), line.size()}, iovec{&end, 1}};
  const std::size_t total = line.size() + 1;
  const ssize_t written = retried([&] { return ::writev(file_.get(), parts.data(), static_cast<int>(parts.size())); });
  int error = written < 0 ? errno : 0;
  if (written >= 0 && static_cast<std::size_t>(written) < total) {
    const auto done = static_cast<std::size_t>(written);
    if (done < line.size()) error = write_all(file_.get(), bytes_of(line.substr(done)));
    if (error == 0) error = write_all(file_.get(), bytes_of({&end, 1}));
  }
  if (error != 0) {
    // Half a line would make the whole log unreadable; where even the cut fails, the write's error is the one to tell.
    if (::ftruncate(file_.get(), static_cast<off_t>(size_)) != 0) errno = error;
    write_failed(path_, "append a line", error, total);
  }
  size_ += total;
}

void AppendFile::sync() {
  if (retried([&] { return ::fdatasync(file_.get()); }) != 0) write_failed(path_, "flush to the disk", errno, size_);
}

std::uint64_t cut_file(const fs::path& path, std::uint64_t size) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 && errno == ENOENT) return 0;
  const Descriptor file = open_to_write(path, O_WRONLY, "open to cut it back", size);
  if (::fstat(file.get(), &status) != 0) write_failed(path, "open to cut it back", errno, size);
  const auto found = static_cast<std::uint64_t>(status.st_size);
  if (found <= size) return found;
  if (retried([&] { return ::ftruncate(file.get(), static_cast<off_t>(size)); }) != 0)
    write_failed(path, "cut back", errno, size);
  return size;
}

FolderLock::FolderLock(fs::path folder) : path_(std::move(folder) / ".lock") {
  // Between open and flock the last holder may have removed the file: then the lock on it protects nothing.
  do {
    file_ = open_to_write(path_, O_RDWR | O_CREAT, "create the lock file");
    if (retried([&] { return ::flock(file_.get(), LOCK_EX | LOCK_NB); }) == 0) continue;
    const Descriptor held = std::exchange(file_, Descriptor());
    if (errno != EWOULDBLOCK) write_failed(path_, "lock", errno, 0);
    std::array<char, 20> holder;
    const ssize_t length = ::pread(held.get(), holder.data(), holder.size(), 0);
    int pid = 0;
    if (length > 0) std::from_chars(holder.data(), holder.data() + length, pid);
    throw Error(Exit::usage, fmt::format("the folder '{}' is in use by {}", path_.parent_path().string(),
                                         pid > 0 ? fmt::format("process {}", pid) : "another process"))
        .at(path_.string())
        .hint("wait until it has finished, or choose another folder");
  } while (!is_at(file_, path_));
  take();
}

FolderLock::FolderLock(fs::path folder, Descriptor inherited)
    : path_(std::move(folder) / ".lock"), file_(std::move(inherited)) {
  if (!is_at(file_, path_)) {
    throw Error(Exit::io, "the lock that was handed down is not this file: it was removed meanwhile")
        .at(path_.string())
        .hint("the same command tries again; leave the folder alone while it runs");
  }
  take();
}

void FolderLock::take() {
  // The process id only serves the message above: a full disk is no reason to refuse the lock.
  if (::ftruncate(file_.get(), 0) == 0) {
    const std::string holder = fmt::format("{}\n", ::getpid());
    [[maybe_unused]] const ssize_t ignored = ::pwrite(file_.get(), holder.data(), holder.size(), 0);
  }
  remove_temporaries(path_.parent_path());
}

FolderLock::~FolderLock() {
  if (file_.get() >= 0) ::unlink(path_.c_str());
}

std::string read_file(const fs::path& path, Exit on_failure) {
  mode_t kind = 0;
  std::uint64_t size = 0;
  const Descriptor file = open_to_read(path, 0, kind, size, on_failure);
  if (kind != S_IFREG && kind != S_IFIFO) not_regular(path, "a file or a pipe", on_failure);
  std::string content;
  // One byte more than the size makes the read that finds the end fit without growing.
  std::size_t room = static_cast<std::size_t>(size) + 1, done = 0;
  for (;;) {
    if (done == content.size()) content.resize(done == 0 ? std::max<std::size_t>(room, 4096) : 2 * done);
    const ssize_t count = retried([&] { return ::read(file.get(), content.data() + done, content.size() - done); });
    if (count < 0)
      throw Error(reading_failure(errno, on_failure),
                  fmt::format("cannot read this file after {} bytes: {}", done, words(errno)))
          .at(path.string())
          .hint("check the disk it lies on");
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  content.resize(done);
  return content;
}

MappedFile::MappedFile(fs::path path, Exit on_failure) : path_(std::move(path)) {
  mode_t kind = 0;
  std::uint64_t size = 0;
  // Without O_NONBLOCK a pipe that nobody writes to would hang here, before it can be refused.
  const Descriptor file = open_to_read(path_, O_NONBLOCK, kind, size, on_failure);
  if (kind != S_IFREG) not_regular(path_, "a regular file", on_failure);
  if (size == 0) return;
  void* const address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED)
    throw Error(reading_failure(errno, on_failure),
                fmt::format("cannot map this file's {} bytes: {}", size, words(errno)))
        .at(path_.string())
        .hint("check the memory limit (ulimit -v) and the file system");
  bytes_ = {static_cast<const std::byte*>(address), static_cast<std::size_t>(size)};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace samformer
