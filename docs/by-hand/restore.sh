#!/usr/bin/env bash
# Restores a full backup from a directory repository with zstd and tar, and age where it is encrypted,
# and sets up recovery to the end of the WAL.
# restore.sh REPOSITORY/SYSTEM-IDENTIFIER BACKUP DIR [KEY-FILE]
set -euo pipefail
umask 077
cluster=$1 backup=$2 dir=$3 key=${4:-}
here=$(cd "$(dirname "$0")" && pwd)

decrypted() {
	if [ -n "$key" ]; then age -d -i "$key" "$1"; else cat "$1"; fi
}

mkdir "$dir"
for slice in "$cluster/backups/$backup/data/"*; do
	decrypted "$slice"
done | zstd -d | tar -x -p -C "$dir"

cat >>"$dir/postgresql.auto.conf" <<CONF
restore_command = '"$here/wal.sh" "$cluster" "$key" "%f" "%p"'
archive_mode = off
CONF
touch "$dir/recovery.signal"
