// Package users checks what etcd's own Go client makes of users, certificates and
// tokens: logging in, being refused, going on after rights have changed, and
// authentication switched on and off under load.
//
// MIZZEN_TEST_ENDPOINTS names the members of one running cluster, as host:port
// separated by commas; MIZZEN_TEST_PKI the folder with ca.crt, client.crt and
// client.key, whose common name is "client". The cluster has no users yet, and
// nobody else may use it. The suite passes against etcd 3.7.3 with signed tokens;
// with simple ones a member of it may not know a token yet that another gave.
package users
