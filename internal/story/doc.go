// Package story tells, as tests, what people live through who run PostgreSQL with walden: a cluster is
// archived and backed up while it is written to, it is lost, and it comes back as it was at the moment
// that they choose, by walden or with nothing but zstd, tar and age.
//
// Nothing is imitated: the binary is the one that is shipped, and it runs in archive_command,
// restore_command and an operator's shell; the servers are PostgreSQL and S3 servers; a lost cluster
// was killed and its files removed. What comes back is compared row by row, in every table of every
// database.
package story
