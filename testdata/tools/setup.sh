#!/bin/sh
# Installs what a make target needs: setup.sh test | lint | demo-file | demo-s3
# What is there already costs next to nothing.
set -eu

cd "$(dirname "$0")"
umask 022 # servers run as another user, who has to read what is installed

versitygw() { ./gotool.sh versitygw github.com/versity/versitygw/cmd/versitygw; }

case ${1:-} in
test)
	./packages.sh flock postgres psql pgbench node npm cc zstd age tar strace
	[ "$(id -u)" != 0 ] || ./packages.sh mkfs.ext4 mount # only root uses them
	./postgres/install.sh
	versitygw
	;;
lint)
	./packages.sh flock
	./gotool.sh lint honnef.co/go/tools/cmd/staticcheck
	;;
demo-file)
	./packages.sh postgres psql pgbench
	;;
demo-s3)
	./packages.sh flock postgres psql pgbench
	versitygw
	;;
*)
	echo "usage: setup.sh test | lint | demo-file | demo-s3" >&2
	exit 64
	;;
esac
