#!/bin/bash
count=40
. "$(dirname "$0")/support/guests.sh"
echo "$dir" > /work/keep.dir
echo "$$" > /work/keep.pid
sleep 5000
