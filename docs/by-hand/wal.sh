#!/usr/bin/env bash
# Hands over a WAL file from a directory repository: for restore_command.
# wal.sh REPOSITORY/SYSTEM-IDENTIFIER KEY-FILE %f %p     with '' for KEY-FILE where nothing is encrypted
set -euo pipefail
wal=$1/wal key=$2 name=$3 to=$4

case $name in
*.history) from=$wal/$name ;;
*) from=$wal/${name:0:8}/${name:8:8}/$name ;;
esac

# Above 125, PostgreSQL stops. With 1, it takes this for the end of the WAL and promotes.
[ -d "$wal" ] || exit 200
[ -e "$from" ] || exit 1
if [ -n "$key" ]; then
	age -d -i "$key" "$from" | zstd -q -d -o "$to" || exit 200
else
	zstd -q -d -o "$to" <"$from" || exit 200
fi
