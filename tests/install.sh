#!/bin/sh
# What `cmake --install` and `cpack` leave works without the build tree: tests/install.sh BUILD
set -eu
build=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() {
  echo "install: $1" >&2
  exit 1
}

cmake --install "$build" --prefix "$folder/usr" >"$folder/log"
cd "$folder"
for file in bin/samformer share/doc/samformer/copyright share/zsh/site-functions/_samformer \
  share/fish/vendor_completions.d/samformer.fish; do
  [ -s "usr/$file" ] || fail "usr/$file is missing or empty"
done
env -i OMP_WAIT_POLICY=passive CUDA_VISIBLE_DEVICES=-1 usr/bin/samformer train --data seasonal --lookback 48 \
  --horizon 24 --epochs 1 --threads 1 --quiet --out run >/dev/null
env -i usr/bin/samformer predict run --threads 1 --quiet | grep -q '^2020-' || fail "no forecast from the installed program"

# The example of tools/docs/embedding.md as another project builds it: with CMake, with pkg-config.
sources=$(cd "$(dirname "$0")/.." && pwd)
libraries=$(dirname "$(find "$folder/usr" -name libsamformer.so)")
exported=$(nm -D --defined-only "$libraries/libsamformer.so" | grep -v ' samformer_' || true)
[ -z "$exported" ] || fail "the library exports $exported"
! readelf -d "$libraries/libsamformer.so" | grep -q libcurl || fail "the library needs libcurl, which it never calls"
mkdir consumer
sed -n '/^```c$/,/^```$/p' "$sources/tools/docs/embedding.md" | grep -v '^```' >consumer/example.c
cat >consumer/CMakeLists.txt <<'EOF'
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES C)
set(CMAKE_C_STANDARD 99)
set(CMAKE_C_EXTENSIONS OFF)
find_package(samformer 0.2 REQUIRED)
add_executable(example example.c)
target_compile_options(example PRIVATE -Wall -Wextra -Wpedantic -Werror)
target_link_libraries(example PRIVATE samformer::samformer m)
EOF
{
  cmake -S consumer -B consumer/build "-DCMAKE_PREFIX_PATH=$folder/usr" && cmake --build consumer/build
} >log 2>&1 || {
  cat log >&2
  fail "find_package(samformer) does not build the example"
}
# forecasts COMMAND...: of an empty folder.
forecasts() {
  rm -rf run
  env -i OMP_WAIT_POLICY=passive CUDA_VISIBLE_DEVICES=-1 "$@" >forecast || fail "the example ends with exit code $?"
  [ "$(grep -c '^10[0-9][0-9] [0-9.]*, 80 % from [0-9.]* to [0-9.]*$' forecast)" = 24 ] || fail "the example forecasts: $(cat forecast)"
}
forecasts consumer/build/example
head -1 forecast | grep -q "$(sed -n 's/.*"weights_sha256": "\([0-9a-f]*\)".*/\1/p' run/result.json)" ||
  fail "the example does not name its weights"
env -i usr/bin/samformer predict run --quiet >/dev/null || fail "the program cannot read the example's run"
if command -v pkg-config >/dev/null; then
  flags=$(PKG_CONFIG_PATH="$libraries/pkgconfig" pkg-config --cflags --libs samformer)
  # shellcheck disable=SC2086
  cc -std=c99 -Wall -Wextra -Wpedantic -Werror consumer/example.c -o consumer/example $flags -lm ||
    fail "the example is not built with pkg-config"
  forecasts env "LD_LIBRARY_PATH=$libraries" consumer/example
fi

# complete WORD...: what bash offers for the last one.
cat >complete <<'EOF'
. usr/share/bash-completion/completions/samformer
COMP_WORDS=(samformer "$@")
COMP_CWORD=$#
_samformer
echo "${COMPREPLY[*]}"
EOF
offers() {
  expected=$1
  shift
  offered=$(bash complete "$@")
  [ "$offered" = "$expected" ] || fail "bash offers '$offered' for '$*', expected '$expected'"
}
offers --horizon train --hor
offers train tr
offers "check repair synth list fetch" data ""
offers --horizon data check a.csv --hor
offers linear train --model lin
offers "--decimal --decimals" predict run --decimal
offers "" predict run --grid
if command -v zsh >/dev/null; then zsh -n usr/share/zsh/site-functions/_samformer || fail "zsh cannot read its completion"; fi
if command -v fish >/dev/null; then
  fish -n usr/share/fish/vendor_completions.d/samformer.fish || fail "fish cannot read its completion"
  fish -c 'source usr/share/fish/vendor_completions.d/samformer.fish; complete -C "samformer train --hor"' |
    grep -q '^--horizon' || fail "fish does not offer --horizon"
fi

page=usr/share/man/man1/samformer.1
if [ -e $page ]; then
  grep -q '^\.SH "*PREDICT' $page || fail "the manual page has no section on predict"
  if command -v man >/dev/null; then
    warnings=$(man -l --warnings $page 2>&1 >/dev/null)
    [ -z "$warnings" ] || fail "the manual page: $warnings"
  fi
fi

if command -v dpkg-shlibdeps >/dev/null; then
  cpack -G DEB --config "$build/CPackConfig.cmake" -B "$folder/deb" >"$folder/log" 2>&1 || {
    cat "$folder/log" >&2
    fail "no package"
  }
  dpkg-deb --contents deb/*.deb | grep -q ' ./usr/bin/samformer$' || fail "the package has no usr/bin/samformer"
  dpkg-deb --contents deb/*.deb | grep -q ' ./usr/lib.*/libsamformer.so -> ' || fail "the package has no library"
  dpkg-deb --field deb/*.deb Depends | grep -q libdnnl || fail "the package does not depend on its libraries"
fi
