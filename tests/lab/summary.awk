# Passes the output of `cargo test --no-fail-fast` on, and says at its end which test binaries failed and how many tests there were.
{ print; fflush() }
/^test result: / { passed += $4; failed += $6; binaries++ }
# Also of a binary that died before it could count.
/^error: (test|doctest) failed, to rerun pass / { broken[++n] = $0; sub(/^.* pass /, "", broken[n]) }
END {
    for (i = 1; i <= n; i++) print "FAILED: cargo test " broken[i]
    printf "%d passed, %d failed in %d test binaries, of which %d failed\n", passed, failed, binaries, n
}
