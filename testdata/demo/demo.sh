#!/usr/bin/env bash
# Backs up a real cluster, destroys it, and gets it back as it was at a chosen moment.
# REPO=file (the default) uses a directory as repository, REPO=s3 a versitygw that it starts.
# WALDEN names the binary. Everything lives in a temporary directory and is removed at the end.
set -euo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
walden_binary=${WALDEN:-$here/walden}
repo_kind=${REPO:-file}

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '   $'; printf ' %q' "$@"; echo; }
die() { printf 'demo: %s\n' "$*" >&2; exit 1; }

# PostgreSQL's programs: in the PATH, or where Debian keeps them.
find_postgres() {
	local dir
	for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
		if [ -x "$dir/postgres" ] && [ -x "$dir/pgbench" ]; then
			echo "$dir"
			return
		fi
	done
	dir=$(dirname "$(command -v pg_ctl || true)")
	[ -x "$dir/pgbench" ] && [ -x "$dir/postgres" ] && echo "$dir"
}
bin=$(find_postgres) || die "no PostgreSQL with server, psql and pgbench found"

work=$(mktemp -d "${TMPDIR:-/tmp}/walden-demo.XXXXXX")
chmod 755 "$work"
gateway=
cleanup() {
	status=$?
	set +e
	for cluster in "$work/primary" "$work/restored"; do
		[ -f "$cluster/postmaster.pid" ] && as_server "$bin/pg_ctl" -D "$cluster" -m immediate -w stop >/dev/null 2>&1
	done
	[ -n "$gateway" ] && kill "$gateway" && wait "$gateway" 2>/dev/null
	[ $status -ne 0 ] && tail -n 20 "$work"/*.log
	rm -rf "$work"
	exit $status
}
trap cleanup EXIT

# PostgreSQL does not run as root.
if [ "$(id -u)" = 0 ]; then
	user=postgres
	id "$user" >/dev/null 2>&1 || user=nobody
	as_server() { (cd "$work" && setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups env HOME="$work" "$@"); }
	chown "$user" "$work"
else
	as_server() { (cd "$work" && "$@"); }
fi
install -m 755 "$walden_binary" "$work/walden"
walden() { show walden "$@"; as_server "$work/walden" "$@"; }

# wait_for SECONDS COMMAND: until the command succeeds.
wait_for() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.1
	done
}

free_port() {
	local port
	for _ in $(seq 100); do
		port=$((20000 + RANDOM % 20000))
		if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo $port
			return
		fi
	done
	die "no free port on loopback"
}

start_gateway() {
	local port
	port=$(free_port)
	mkdir -p "$work/s3/demo" "$work/s3-users"
	export AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demosecret
	"$here/.cache/bin/versitygw" --access "$AWS_ACCESS_KEY_ID" --secret "$AWS_SECRET_ACCESS_KEY" -p "127.0.0.1:$port" \
		--keep-alive -q --iam-dir "$work/s3-users" posix "$work/s3" >"$work/s3.log" 2>&1 &
	gateway=$!
	answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }
	wait_for 30 answers || die "versitygw does not answer: $(cat "$work/s3.log")"
	WALDEN_REPO="s3://demo/pg?endpoint=http://127.0.0.1:$port&path-style=true&region=us-east-1"
}

say "1. A repository"
case $repo_kind in
file)
	as_server mkdir "$work/repository"
	WALDEN_REPO="file://$work/repository"
	echo "   a directory: $WALDEN_REPO"
	;;
s3)
	start_gateway
	echo "   an S3 server (versitygw): $WALDEN_REPO"
	;;
*) die "REPO is file or s3, not $repo_kind" ;;
esac
export WALDEN_REPO

port=$(free_port)
sql() { as_server "$bin/psql" -X -q -A -t -h "$work" -p "$1" -d postgres -v ON_ERROR_STOP=1 -c "$2"; }

say "2. A cluster that archives its WAL with walden"
as_server "$bin/initdb" -D "$work/primary" -U demo -A trust >/dev/null
cat >>"$work/primary/postgresql.conf" <<CONF
port = $port
listen_addresses = ''
unix_socket_directories = '$work'
archive_mode = on
archive_command = '$work/walden wal-push %p'
CONF
grep '^archive_command' "$work/primary/postgresql.conf" | sed 's/^/   /'
as_server "$bin/pg_ctl" -D "$work/primary" -l "$work/primary.log" -w start >/dev/null
export PGUSER=demo
as_server "$bin/pgbench" -h "$work" -p "$port" -i -s 10 -q postgres >/dev/null 2>&1
echo "   loaded with pgbench: $(sql "$port" 'SELECT count(*) FROM pgbench_accounts') accounts"
walden check --pgdata "$work/primary"

say "3. A base backup, while the cluster goes on writing"
as_server "$bin/pgbench" -h "$work" -p "$port" -T 4 -c 2 -n postgres >/dev/null 2>&1 &
writer=$!
walden backup-push "$work/primary"
wait "$writer"

say "4. Somebody drops a table by mistake"
sum="SELECT md5(string_agg(t::text, ',' ORDER BY aid)) FROM pgbench_accounts t"
before=$(sql "$port" "$sum")
echo "   checksum of pgbench_accounts: $before"
moment=$(sql "$port" "SELECT clock_timestamp()")
echo "   the time is $moment"
sql "$port" "SELECT pg_sleep(0.1)" >/dev/null
sql "$port" "DROP TABLE pgbench_accounts"
echo "   DROP TABLE pgbench_accounts;"
sql "$port" "SELECT count(*) FROM pgbench_accounts" 2>&1 | sed 's/^/   /' || true

say "5. Worse: the whole cluster is lost"
segment=$(sql "$port" "SELECT pg_walfile_name(pg_switch_wal())")
echo "   (after its last WAL, $segment, was archived)"
archived() { [ -z "$(sql "$port" "SELECT 1 WHERE coalesce((SELECT last_archived_wal FROM pg_stat_archiver), '') < '$segment'")" ]; }
wait_for 60 archived || die "$segment was not archived within a minute"
as_server "$bin/pg_ctl" -D "$work/primary" -m immediate -w stop >/dev/null
rm -rf "$work/primary"
show rm -rf "$work/primary"

say "6. Restore to the moment before the mistake, into a new directory"
walden info
walden backup-fetch "$work/restored" latest --target-time "$moment" --target-action promote
as_server "$bin/pg_ctl" -D "$work/restored" -l "$work/restored.log" -w start >/dev/null
promoted() { [ "$(sql "$port" 'SELECT pg_is_in_recovery()' 2>/dev/null || true)" = f ]; }
wait_for 60 promoted || die "recovery did not end within a minute"

say "7. Is the table back?"
after=$(sql "$port" "$sum")
echo "   checksum before: $before"
echo "   checksum after:  $after"
[ "$before" = "$after" ] || die "the checksums differ"
printf '\n\033[1m   The table is back, every row of it.\033[0m\n'
