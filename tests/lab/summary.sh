#!/bin/bash
# Passes the output of `cargo test --no-fail-fast` on, and says at its end which test binaries failed and how many tests there were.
passed=0 failed=0 binaries=0 broken=()
while IFS= read -r line; do
  printf '%s\n' "$line"
  case $line in
    'test result: '*)
      [[ $line =~ \ ([0-9]+)\ passed\;\ ([0-9]+)\ failed ]] || continue
      passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2])) binaries=$((binaries + 1)) ;;
    # Also of a binary that died before it could count.
    'error: test failed, to rerun pass '* | 'error: doctest failed, to rerun pass '*) broken+=("${line#* pass }") ;;
  esac
done
[ ${#broken[@]} = 0 ] || printf 'FAILED: cargo test %s\n' "${broken[@]}"
echo "$passed passed, $failed failed in $binaries test binaries, of which ${#broken[@]} failed"
