package users

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const callTimeout = 20 * time.Second

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	t.Cleanup(cancel)
	return ctx
}

func setting(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set", name)
	}
	return value
}

// dial connects to all members with the client's certificate, as a user if name is
// not empty.
func dial(t *testing.T, name, password string) (*clientv3.Client, error) {
	t.Helper()
	pki := setting(t, "MIZZEN_TEST_PKI")
	info := transport.TLSInfo{
		CertFile:      filepath.Join(pki, "client.crt"),
		KeyFile:       filepath.Join(pki, "client.key"),
		TrustedCAFile: filepath.Join(pki, "ca.crt"),
	}
	tls, err := info.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	var endpoints []string
	for _, endpoint := range strings.Split(setting(t, "MIZZEN_TEST_ENDPOINTS"), ",") {
		endpoints = append(endpoints, "https://"+endpoint)
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   endpoints,
		DialTimeout: callTimeout,
		TLS:         tls,
		Username:    name,
		Password:    password,
		Logger:      zap.NewNop(),
	})
	if err == nil {
		t.Cleanup(func() { client.Close() })
	}
	return client, err
}

func connect(t *testing.T, name, password string) *clientv3.Client {
	t.Helper()
	client, err := dial(t, name, password)
	if err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	return client
}

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, and not %v", what, err, want)
	}
}

// One test, since whether there are users is the whole cluster's.
func TestUsers(t *testing.T) {
	plain := connect(t, "", "")
	enable(t, plain)
	root, u := connect(t, "root", "p"), connect(t, "u", "p")
	t.Run("rights", func(t *testing.T) { rights(t, root, u) })
	t.Run("certificate", func(t *testing.T) { certificate(t) })
	t.Run("passwords", func(t *testing.T) { passwords(t) })
	t.Run("changes", func(t *testing.T) { changes(t, root, u) })
	t.Run("switched", func(t *testing.T) { switched(t, u) })
	must[*clientv3.AuthDisableResponse](t)(connect(t, "root", "p").AuthDisable(testContext(t)))
	must[*clientv3.PutResponse](t)(plain.Put(testContext(t), "outside", "1"))
}

func enable(t *testing.T, c *clientv3.Client) {
	ctx := testContext(t)
	all := clientv3.PermissionType(clientv3.PermReadWrite)
	for _, name := range []string{"root", "u"} {
		must[*clientv3.AuthUserAddResponse](t)(c.UserAdd(ctx, name, "p"))
	}
	options := &clientv3.UserAddOptions{NoPassword: true}
	must[*clientv3.AuthUserAddResponse](t)(c.UserAddWithOptions(ctx, "client", "", options))
	for role, key := range map[string]string{"own": "k/", "certified": "c/"} {
		must[*clientv3.AuthRoleAddResponse](t)(c.RoleAdd(ctx, role))
		end := clientv3.GetPrefixRangeEnd(key)
		must[*clientv3.AuthRoleGrantPermissionResponse](t)(c.RoleGrantPermission(ctx, role, key, end, all))
	}
	for user, role := range map[string]string{"root": "root", "u": "own", "client": "certified"} {
		must[*clientv3.AuthUserGrantRoleResponse](t)(c.UserGrantRole(ctx, user, role))
	}
	must[*clientv3.AuthEnableResponse](t)(c.AuthEnable(ctx))
}

func rights(t *testing.T, root, u *clientv3.Client) {
	ctx := testContext(t)
	must[*clientv3.PutResponse](t)(root.Put(ctx, "outside", "0"))
	must[*clientv3.PutResponse](t)(u.Put(ctx, "k/a", "1"))
	got := must[*clientv3.GetResponse](t)(u.Get(ctx, "k/", clientv3.WithPrefix()))
	if len(got.Kvs) != 1 {
		t.Errorf("%d keys, and not one", len(got.Kvs))
	}
	denied := rpctypes.ErrPermissionDenied
	_, err := u.Put(ctx, "outside", "1")
	wantError(t, "put", err, denied)
	_, err = u.Get(ctx, "k/", clientv3.WithFromKey())
	wantError(t, "get to the end", err, denied)
	_, err = u.Txn(ctx).If(clientv3.Compare(clientv3.Version("k/a"), "=", 0)).
		Then(clientv3.OpPut("k/a", "2")).Else(clientv3.OpGet("outside")).Commit()
	wantError(t, "a branch that reads what it may not", err, denied)
	_, err = u.UserList(ctx)
	wantError(t, "list of users", err, denied)
	for response := range u.Watch(ctx, "outside") {
		if !response.Canceled || !strings.Contains(response.Err().Error(), "permission denied") {
			t.Errorf("watch: %+v", response)
		}
	}
	watched := u.Watch(ctx, "k/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watched
	lease := must[*clientv3.LeaseGrantResponse](t)(u.Grant(ctx, 60))
	must[*clientv3.PutResponse](t)(u.Put(ctx, "k/b", "1", clientv3.WithLease(lease.ID)))
	if response := <-watched; len(response.Events) != 1 || string(response.Events[0].Kv.Key) != "k/b" {
		t.Errorf("watched: %+v", response)
	}
	must[*clientv3.LeaseKeepAliveResponse](t)(u.KeepAliveOnce(ctx, lease.ID))
	must[*clientv3.PutResponse](t)(root.Put(ctx, "outside", "1", clientv3.WithLease(lease.ID)))
	_, err = u.Revoke(ctx, lease.ID)
	wantError(t, "a lease with another's key revoked", err, denied)
	must[*clientv3.LeaseRevokeResponse](t)(root.Revoke(ctx, lease.ID))
}

// Whom only the certificate names.
func certificate(t *testing.T) {
	ctx := testContext(t)
	client := connect(t, "", "")
	must[*clientv3.PutResponse](t)(client.Put(ctx, "c/a", "1"))
	_, err := client.Put(ctx, "k/a", "1")
	wantError(t, "put", err, rpctypes.ErrPermissionDenied)
}

func passwords(t *testing.T) {
	for _, c := range []struct{ name, password string }{{"u", "wrong"}, {"nobody", "p"}} {
		_, err := dial(t, c.name, c.password)
		wantError(t, "login as "+c.name, err, rpctypes.ErrAuthFailed)
	}
	_, err := dial(t, "client", "p")
	if err == nil || !strings.Contains(err.Error(), "password was given for no password user") {
		t.Errorf("login as client: %v", err)
	}
}

// A client that stays connected goes on with what it may: each change of users
// makes its token one of an older revision, and it logs in again by itself.
func changes(t *testing.T, root, u *clientv3.Client) {
	ctx := testContext(t)
	must[*clientv3.AuthRoleAddResponse](t)(root.RoleAdd(ctx, "more"))
	all := clientv3.PermissionType(clientv3.PermReadWrite)
	must[*clientv3.AuthRoleGrantPermissionResponse](t)(root.RoleGrantPermission(ctx, "more", "more", "", all))
	for range 10 {
		must[*clientv3.AuthUserGrantRoleResponse](t)(root.UserGrantRole(ctx, "u", "more"))
		must[*clientv3.PutResponse](t)(u.Put(ctx, "more", "1"))
		must[*clientv3.AuthUserRevokeRoleResponse](t)(root.UserRevokeRole(ctx, "u", "more"))
		_, err := u.Put(ctx, "more", "2")
		wantError(t, "put after the role is gone", err, rpctypes.ErrPermissionDenied)
		must[*clientv3.PutResponse](t)(u.Put(ctx, "k/a", "2"))
	}
	must[*clientv3.AuthUserChangePasswordResponse](t)(root.UserChangePassword(ctx, "u", "q"))
	_, err := dial(t, "u", "p")
	wantError(t, "login with the old password", err, rpctypes.ErrAuthFailed)
	must[*clientv3.PutResponse](t)(connect(t, "u", "q").Put(ctx, "k/a", "3"))
	must[*clientv3.AuthUserChangePasswordResponse](t)(root.UserChangePassword(ctx, "u", "p"))
}

// While authentication goes off and on, callers with a password are served, or told
// that what they showed is out of date, or refused as the user that their certificate
// names (the client drops its token while there are no users); what is acknowledged is
// there.
func switched(t *testing.T, u *clientv3.Client) {
	const callers = 8
	ctx := testContext(t)
	told := []error{
		rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision, rpctypes.ErrUserEmpty,
		rpctypes.ErrAuthNotEnabled, rpctypes.ErrPermissionDenied,
	}
	var group sync.WaitGroup
	var stop atomic.Bool
	served := make([]int, callers)
	for caller := range callers {
		group.Go(func() {
			key := fmt.Sprintf("k/load-%d", caller)
			for !stop.Load() {
				_, err := u.Put(ctx, key, fmt.Sprint(served[caller]+1))
				if err == nil {
					served[caller]++
				} else if !slices.ContainsFunc(told, func(told error) bool { return errors.Is(err, told) }) {
					t.Errorf("put: %v", err)
					return
				}
			}
		})
	}
	for range 5 {
		root, err := dial(t, "root", "p")
		if err == nil {
			_, err = root.AuthDisable(ctx)
		}
		if err == nil {
			_, err = root.AuthEnable(ctx)
		}
		if err != nil {
			t.Errorf("switch: %v", err)
		}
	}
	stop.Store(true)
	group.Wait()
	reader := connect(t, "u", "p")
	for caller, count := range served {
		got := must[*clientv3.GetResponse](t)(reader.Get(ctx, fmt.Sprintf("k/load-%d", caller)))
		if count == 0 || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != fmt.Sprint(count) {
			t.Errorf("caller %d: %v, and not %d", caller, got.Kvs, count)
		}
	}
}
