#!/bin/sh
# Runs every fuzz target: fuzz.sh TIME-FOR-EACH PACKAGE...
set -eu

time=$1
shift

for package in $(go list "$@"); do
	names=$(go test -list '^Fuzz' "$package") # also the line "ok <package>"
	for target in $names; do
		case $target in
		Fuzz*)
			echo "$package $target"
			go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"
			;;
		esac
	done
done
