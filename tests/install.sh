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
  dpkg-deb --field deb/*.deb Depends | grep -q libdnnl || fail "the package does not depend on its libraries"
fi
