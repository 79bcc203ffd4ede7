#!/usr/bin/env bash
# Leaves the tablespaces of a data directory that restore.sh has made where they are, in pg_tblspc.
# Without tablespace_map PostgreSQL makes no links to their old places, and with the setting it puts up
# with directories in place of links.
# leave-tablespaces.sh DIR
set -euo pipefail
dir=$1

rm "$dir/tablespace_map"
echo 'allow_in_place_tablespaces = on' >>"$dir/postgresql.auto.conf"
