#!/bin/sh
# Installs PostgreSQL's servers of several majors into .cache/postgres, as package-lock.json pins them.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=$(cd "$here/../../.." && pwd)/.cache
to=$cache/postgres
new=$cache/postgres.new

mkdir -p "$cache"
exec 9>"$cache/postgres.lock"
flock 9 # another make may be at it

stamp=$(cat "$here/package.json" "$here/package-lock.json" "$0" | sha256sum)
if [ "$(cat "$to/stamp" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi

echo "installing PostgreSQL 13 to 18 into $to"
rm -rf "$new"
mkdir "$new"
cp "$here/package.json" "$here/package-lock.json" "$new"
cd "$new"
# The packages' install step restores the symbolic links between libraries, which npm's format can't
# hold. npm's newer releases don't run such steps unasked, so it is run here, whatever npm does.
npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error
for package in node_modules/pg*/; do
	(cd "$package" && node scripts/hydrate-symlinks.js)
	"$package/native/bin/postgres" --version
done

echo "$stamp" >stamp
rm -rf "$to"
mv "$new" "$to"
