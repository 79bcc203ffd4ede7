#!/bin/sh
# Captures the files of this directory from a real PostgreSQL; README.md says what they are.
#
#	capture.sh BINDIR OUTDIR [initdb option...]
#
# BINDIR holds initdb, pg_ctl and postgres of one major version; psql of any version is found in PATH.
# Runs as any user but root, on a machine where ports 7813 to 7815 are free.
set -eu
bin=$1 out=$2
shift 2
root=/tmp/walden-capture
rm -rf "$root"
mkdir -p "$root/archive" "$out"
space="$root/a space\\and more"
mkdir "$space"
export PGHOST="$root" PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=5

stop() {
	for d in primary standby early restored; do
		if [ -f "$root/$d/postmaster.pid" ]; then "$bin/pg_ctl" stop -s -m immediate -D "$root/$d"; fi
	done
}
trap 'stop; rm -rf "$root"' EXIT

# configure DIR PORT [RESTORE_COMMAND]
configure() {
	cat >"$root/$1/postgresql.auto.conf" <<CONF
port = $2
listen_addresses = '127.0.0.1'
unix_socket_directories = '$root'
log_timezone = 'UTC'
wal_level = replica
archive_mode = on
archive_command = 'cp "%p" "$root/archive/.%f" && mv "$root/archive/.%f" "$root/archive/%f"'
restore_command = '${3:-cp "$root/archive/%f" "%p"}'
max_connections = 37
max_worker_processes = 9
max_wal_senders = 11
max_prepared_transactions = 3
max_locks_per_transaction = 65
CONF
}
start() { "$bin/pg_ctl" start -s -w -t 60 -D "$root/$1" -l "$root/$1.log"; }
sql() { psql -XqAt -v ON_ERROR_STOP=1 -p "$1" -c "$2"; }
poll() { # PORT QUERY: until it answers t
	n=0
	until [ "$(sql "$1" "$2")" = t ]; do
		n=$((n + 1))
		[ $n -lt 600 ] || { echo "gave up on: $2" >&2; exit 1; }
		sleep 0.1
	done
}
control_sql() {
	sql "$1" "select jsonb_pretty(jsonb_build_object(
		'system', (select to_jsonb(s) from pg_control_system() s),
		'checkpoint', (select to_jsonb(c) from pg_control_checkpoint() c),
		'recovery', (select to_jsonb(r) from pg_control_recovery() r),
		'init', (select to_jsonb(i) from pg_control_init() i),
		'version', current_setting('server_version')))"
}
# control DIR PORT NAME: the file, and what the server says about it, with no change of the file in between.
control() {
	while :; do
		control_sql "$2" >"$out/$3.json"
		cp "$root/$1/global/pg_control" "$out/$3"
		control_sql "$2" | cmp -s - "$out/$3.json" && return
	done
}
first_page() { head -c 8192 "$root/archive/$1" >"$out/$1"; } # the archived segment's
archived() { # NAME
	n=0
	until [ -f "$root/archive/$1" ]; do
		n=$((n + 1))
		[ $n -lt 600 ] || { echo "$1 was not archived" >&2; exit 1; }
		sleep 0.1
	done
}
# backup PORT LABEL FROM DIR OUTNAME: a base backup of the server at PORT, as a copy of its directory FROM in DIR, which can
# be started as another server. It lives in one session, so its start, the copy and its stop are one script.
backup() {
	if [ "$(sql "$1" "select current_setting('server_version_num')::int >= 150000")" = t ]; then
		begin="pg_backup_start('$2', true)" end="pg_backup_stop(false)"
	else
		begin="pg_start_backup('$2', true, false)" end="pg_stop_backup(false, false)"
	fi
	psql -XqAt -v ON_ERROR_STOP=1 -p "$1" >"$root/stop" <<SQL
\\o /dev/null
select $begin;
\\o
\\! cp -a "$root/$3" "$root/$4"
select encode(convert_to(labelfile, 'UTF8'), 'hex'), encode(convert_to(spcmapfile, 'UTF8'), 'hex') from $end;
SQL
	cut -d'|' -f1 "$root/stop" | xxd -r -p >"$out/$5"
	cut -d'|' -f2 "$root/stop" | xxd -r -p >"$root/map"
	cp "$out/$5" "$root/$4/backup_label"
	rm -f "$root/$4/postmaster.pid"
}

"$bin/initdb" -D "$root/primary" -U postgres -A trust -E UTF8 --locale=C "$@" >/dev/null
configure primary 7813
start primary
cp "$root/primary/postmaster.pid" "$out/postmaster.pid"
sql 7813 "create tablespace space location '$space'"
sql 7813 "create table t as select g as i from generate_series(1, 1000) g"

# A base backup, its label, its tablespace map and its history file.
backup 7813 'nightly: 1' primary standby backup_label
cp "$root/map" "$out/tablespace_map"
cp -a "$root/standby" "$root/early"
segment=$(sed -n 's/^START WAL LOCATION: .*(file \(.*\))$/\1/p' "$out/backup_label")
archived "$segment"
first_page "$segment"
name=$segment.00000028.backup # on an idle server, the redo pointer comes right after the page header
archived "$name"
cp "$root/archive/$name" "$out/$name"

# The control file of a primary.
sql 7813 "insert into t select 1; create table u(i int); insert into u select 1; checkpoint"
control primary 7813 control.primary
early=$(sql 7813 "select pg_current_wal_lsn()")
sql 7813 "insert into t select generate_series(1, 1000)"
sql 7813 "select pg_switch_wal()" >/dev/null
sql 7813 "insert into t select generate_series(1, 1000)"
late=$(sql 7813 "select pg_current_wal_lsn()")
lacking=$(sql 7813 "select pg_walfile_name(pg_switch_wal())")
archived "$lacking"

# A standby that reads the archive: its control file and its backup label; then it is promoted to timeline 2.
configure standby 7814
touch "$root/standby/standby.signal"
start standby
poll 7814 "select pg_last_wal_replay_lsn() >= '$late'"
sql 7814 "checkpoint"
control standby 7814 control.standby
backup 7814 'from a standby' standby restored backup_label.standby
sql 7814 "select pg_promote()" >/dev/null
poll 7814 "select not pg_is_in_recovery()"
archived 00000002.history
cp "$root/archive/00000002.history" "$out/"

# Recovery along timeline 2 that ends before that timeline's start: a history whose switch points descend.
configure early 7815
cat >>"$root/early/postgresql.auto.conf" <<CONF
recovery_target_lsn = '$early'
recovery_target_timeline = 'latest'
recovery_target_action = 'promote'
CONF
touch "$root/early/recovery.signal"
start early
poll 7815 "select not pg_is_in_recovery()"
archived 00000003.history
cp "$root/archive/00000003.history" "$out/"

# The first segment of that timeline, which starts with a copy of timeline 1's.
segment=$(sql 7815 "select pg_walfile_name(pg_switch_wal())")
archived "$segment"
first_page "$segment"

# The control file of a server that recovers from the standby's backup and lacks WAL to its end.
configure restored 7815 "test %f != $lacking && cp \"$root/archive/%f\" \"%p\""
echo "recovery_target_timeline = 'current'" >>"$root/restored/postgresql.auto.conf"
rm -f "$root/restored/pg_wal/$lacking"
"$bin/pg_ctl" stop -s -m immediate -D "$root/early"
"$bin/pg_ctl" start -s -W -D "$root/restored" -l "$root/restored.log"
n=0
until grep -q 'redo starts' "$root/restored.log"; do
	n=$((n + 1))
	[ $n -lt 600 ] || { echo "recovery from the standby's backup did not begin" >&2; exit 1; }
	sleep 0.1
done
cp "$root/restored/global/pg_control" "$out/control.restored"

# The control file of a server that shut down.
"$bin/pg_ctl" stop -s -m fast -D "$root/primary"
cp "$root/primary/global/pg_control" "$out/control.shutdown"
