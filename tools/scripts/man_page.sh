#!/bin/sh
# The manual page of a built program, all commands in one, by help2man.
#   tools/scripts/man_page.sh PROGRAM > samformer.1
set -eu
program=$1
sections=$(mktemp)
trap 'rm -f "$sections"' EXIT
# The first line of a command is indented by two, its summary may go on below it.
"$program" --help | sed -n '/^Commands$/,/^$/s/^  \([a-z][a-z]*\( check\| repair\| synth\| list\| fetch\)\{0,1\}\).*/\1/p' |
  while read -r command; do
    printf '[=%s]\n.nf\n' "$(echo "$command" | tr '[:lower:]' '[:upper:]')"
    # shellcheck disable=SC2086  # "data check" is two words
    "$program" $command --help | sed 's/\\/\\\\/g; s/-/\\-/g; s/^\([.'"'"']\)/\\\&\1/'
    printf '.fi\n'
  done >"$sections"
help2man --no-info --name "trains SAMformer and forecasts long time series" --include "$sections" "$program"
