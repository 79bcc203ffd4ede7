package pgdata

import "strings"

// The rules in this file are those of sendDir and of the lists before it: src/backend/backup/basebackup.c
// (src/backend/replication/basebackup.c up to 14). Where the majors differ in letter, they agree on every file that a
// server creates.

// isExcludedFile tells whether a name never belongs in a base backup, wherever it is: excludeFiles, and what sendDir
// skips before looking there.
func isExcludedFile(name string) bool {
	switch name {
	case "postgresql.auto.conf.tmp", "current_logfiles.tmp", "backup_label", "tablespace_map", "backup_manifest",
		"postmaster.pid", "postmaster.opts", ".DS_Store":
		return true
	}
	return strings.HasPrefix(name, "pgsql_tmp") || // PG_TEMP_FILE_PREFIX
		strings.HasPrefix(name, "pg_internal.init") // RELCACHE_INIT_FILENAME
}

// isEmptiedDir tells whether the contents of a directory of this name don't belong in a base backup, wherever it is:
// excludeDirContents.
func isEmptiedDir(name string) bool {
	switch name {
	case "pg_stat_tmp", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_subtrans":
		return true
	default:
		return false
	}
}

// isOwnedDir tells whether a directory at the top of PGDATA is one whose files PostgreSQL names and writes itself, and
// whose content belongs in a base backup.
func isOwnedDir(name string) bool {
	switch name {
	case "base", "global", "pg_commit_ts", "pg_logical", "pg_multixact", "pg_stat", tablespaceDir, "pg_twophase", "pg_xact":
		return true
	default:
		return false
	}
}

// relation is what a file's name says in a directory that holds relations.
type relation struct {
	number string // the relation's file number
	fork   string // "" for the main fork
}

// parseRelation reads the name of a relation's file: parse_filename_for_nontemp_relation,
// src/backend/storage/file/reinit.c.
func parseRelation(name string) (relation, bool) {
	number, rest := cutDigits(name)
	if _, ok := parseOID(number); !ok {
		return relation{}, false
	}
	fork, rest, ok := cutForkAndSegment(rest)
	return relation{number: number, fork: fork}, ok && rest == ""
}

// isTemporaryRelation tells names such as t3_16385_fsm.1, of sessions' temporary tables: looks_like_temp_rel_name,
// src/backend/storage/file/fd.c.
func isTemporaryRelation(name string) bool {
	rest, isT := strings.CutPrefix(name, "t")
	backend, rest := cutDigits(rest)
	rest, joined := strings.CutPrefix(rest, "_")
	number, rest := cutDigits(rest)
	if !isT || backend == "" || !joined || number == "" {
		return false
	}
	_, rest, ok := cutForkAndSegment(rest)
	return ok && rest == ""
}

// cutForkAndSegment takes "_fork" and ".segment" off, both of which may be absent. ok is false where a "_" or "."
// starts neither.
func cutForkAndSegment(s string) (fork, rest string, ok bool) {
	if after, has := strings.CutPrefix(s, "_"); has {
		for _, f := range []string{"fsm", "vm", "init"} { // forkNames, src/common/relpath.c
			if strings.HasPrefix(after, f) {
				fork = f
			}
		}
		if fork == "" {
			return "", s, false
		}
		s = after[len(fork):]
	}
	if after, has := strings.CutPrefix(s, "."); has {
		segment, tail := cutDigits(after)
		return fork, tail, segment != ""
	}
	return fork, s, true
}

func cutDigits(s string) (digits, rest string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}
