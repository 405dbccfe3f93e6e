// Package suite pins etcd's own end-to-end tests, which are released as a Go
// module, so that they can be compiled and run against either server: see run.sh.
package suite

import (
	_ "go.etcd.io/etcd/tests/v3/framework/e2e"
)
