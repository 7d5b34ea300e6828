#!/bin/sh
# Runs every fuzz target of the module for FUZZTIME each (go test fuzzes one
# target at a time), and fails if there is none: a run that finds nothing to
# run proves nothing.
set -eu
go=${GO:-go}
n=0
for pkg in $($go list ./...); do
	dir=$($go list -f '{{.Dir}}' "$pkg")
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir"/*_test.go 2>/dev/null); do
		echo "fuzz $pkg $target"
		$go test "$pkg" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}"
		n=$((n + 1))
	done
done
test "$n" -gt 0 || { echo "no fuzz target found"; exit 1; }
echo "$n fuzz targets ran"
