#!/bin/sh
# Sees to it that programs are installed: packages.sh PROGRAM...
# As root on Debian or Ubuntu it installs what is missing; elsewhere it says what is missing and fails.
set -eu

present() {
	case $1 in
	postgres | pgbench | psql) # Debian keeps the first two out of the PATH
		command -v "$1" >/dev/null || ls /usr/lib/postgresql/*/bin/"$1" >/dev/null 2>&1
		;;
	cc) # the race detector needs a compiler and the C library's headers
		echo '#include <stdlib.h>' | "$(go env CC)" -E - >/dev/null 2>&1
		;;
	*)
		command -v "$1" >/dev/null
		;;
	esac
}

packages_of() {
	case $1 in
	postgres | pgbench | psql) echo postgresql ;;
	cc) echo gcc libc6-dev ;;
	node) echo nodejs ;;
	mkfs.ext4) echo e2fsprogs ;;
	flock) echo util-linux ;;
	*) echo "$1" ;;
	esac
}

missing=
packages=
for program; do
	if ! present "$program"; then
		missing="$missing $program"
		packages="$packages $(packages_of "$program")"
	fi
done
if [ -z "$missing" ]; then
	exit 0
fi

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "missing:$missing" >&2
	echo "Install them, on Debian and Ubuntu with: apt-get install$packages" >&2
	exit 1
fi

echo "installing:$packages"
# Debian's postgresql would make a cluster and start it; nobody asked for that.
no_cluster=/etc/postgresql-common/createcluster.d/walden-test.conf
mkdir -p "$(dirname "$no_cluster")"
trap 'rm -f "$no_cluster"' EXIT
echo 'create_main_cluster = false' >"$no_cluster"

export DEBIAN_FRONTEND=noninteractive
apt-get -q -o DPkg::Lock::Timeout=300 update
# shellcheck disable=SC2086 # it is a list
apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $packages

for program; do
	if ! present "$program"; then
		echo "$program is still missing after installing$packages" >&2
		exit 1
	fi
done
