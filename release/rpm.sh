#!/bin/bash
# The rpm of a program that runs where the C library is not older than this machine's: rpm.sh FOLDER writes it into FOLDER.
# shellcheck source=release/lib.sh
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || die "usage: rpm.sh FOLDER"
mkdir -p "$1"
program=$(release/build.sh)
manual
packaging/rpm/build.sh "$program" 1 "$1"
