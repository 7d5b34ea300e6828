#!/bin/sh
# Runs every fuzz target of the module for FUZZTIME each (go test fuzzes one
# target at a time), and fails if there is none: a run that finds nothing to
# run proves nothing.
#
# FUZZTIME is a count of inputs (20000x) and not a time: until Go 1.27, a time
# that ends while a worker is busy can fail the target with "context deadline
# exceeded", though no input did (https://go.dev/issue/75804).
set -eu
go=${GO:-go}
n=0
for pkg in $($go list ./...); do
	dir=$($go list -f '{{.Dir}}' "$pkg")
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir"/*_test.go 2>/dev/null); do
		echo "fuzz $pkg $target"
		$go test "$pkg" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-50000x}"
		n=$((n + 1))
	done
done
test "$n" -gt 0 || { echo "no fuzz target found"; exit 1; }
echo "$n fuzz targets ran"
