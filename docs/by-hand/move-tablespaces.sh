#!/usr/bin/env bash
# Moves the tablespaces of a data directory that restore.sh has made to PLACES/OID, and tells PostgreSQL
# where they are: when it starts, it makes the links in pg_tblspc from tablespace_map.
# move-tablespaces.sh DIR PLACES
set -euo pipefail
dir=$1 places=$2

while read -r oid _; do
	mv "$dir/pg_tblspc/$oid" "$places/$oid"
	echo "$oid $places/$oid"
done <"$dir/tablespace_map" >"$dir/tablespace_map.new"
mv "$dir/tablespace_map.new" "$dir/tablespace_map"
