#!/bin/sh
# Builds a Go program into .cache/bin: gotool.sh DIRECTORY PACKAGE
# DIRECTORY, beside this script, holds the go.mod and go.sum that pin it.
set -eu

dir=$(cd "$(dirname "$0")/$1" && pwd)
package=$2
name=$(basename "$package")
cache=$(cd "$dir/../../.." && pwd)/.cache
bin=$cache/bin

mkdir -p "$bin"
exec 9>"$bin/$name.lock"
flock 9 # another make may be at it

cd "$dir"
stamp=$( (go version && cat go.mod go.sum) | sha256sum)
if [ -x "$bin/$name" ] && [ "$(cat "$bin/$name.stamp" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi

echo "building $name (the first time takes minutes)"
GOFLAGS='' GOWORK=off CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$bin/$name.new" "$package"
mv "$bin/$name.new" "$bin/$name" # under a test that runs it, too
echo "$stamp" >"$bin/$name.stamp"
