#!/bin/bash
# What was released, where it runs: each script here, with what it says. One that cannot run here says why and ends with 3.
#
# They take what is in target/dist (make release); what is missing there they build.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
here=$(dirname "$(realpath "$0")")
passed=0 skipped=0 failed=()
for script in "$here"/*.sh; do
  name=${script##*/} code=0
  case $name in all.sh | *-inside.sh) continue ;; esac
  say "# $name"
  "$script" || code=$?
  case $code in
    0) passed=$((passed + 1)) ;;
    3) say "SKIPPED packages::${name%.sh}"; skipped=$((skipped + 1)) ;;
    *) failed+=("$name") ;;
  esac
done
[ ${#failed[@]} = 0 ] || say "FAILED: ${failed[*]}"
echo "$passed passed, ${#failed[@]} failed, $skipped skipped"
[ ${#failed[@]} = 0 ]
