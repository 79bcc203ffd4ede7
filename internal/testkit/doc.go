// Package testkit gives tests the real things: PostgreSQL servers of several majors, an S3 server,
// and the walden binary as it is shipped.
//
// Nothing that it starts or creates outlives the test binary, however that ends. Servers carry a
// parent death signal, and a small process of its own (see scratch) removes the files. Run as root,
// servers run as the user postgres or nobody, because PostgreSQL refuses to run as root; everything
// handed to them lies where that user can reach it, wherever the checkout is.
//
// The package needs Linux, and the tools that `make setup` installs below .cache.
package testkit
