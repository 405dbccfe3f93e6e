// Package conformance checks keys, watches and leases of the etcd v3 API through
// etcd's own Go client and through raw gRPC, where that client hides a field.
//
// The expectations are those of etcd 3.7.3: the suite passes against it without
// an exception, and every expected error text is the text that etcd sends.
//
// The members are started with --watch-progress-notify-interval=100ms.
//
// MIZZEN_TEST_ENDPOINTS names the members of one running cluster, as host:port
// separated by commas. Most tests run once through every member. The store may
// hold other keys, since each test keeps to a key prefix of its own, but nobody
// else may write while the suite runs: revisions are compared exactly, and some
// tests compact. The tests never run in parallel for the same reason.
package conformance
