package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/leasing"
)

func TestClientLease(t *testing.T) {
	for _, of := range append([][]*member{members}, eachAlone()...) {
		client, ctx := newClient(t, of...), testContext(t)
		p := newPrefix(t)
		lease, err := client.Grant(ctx, longTTL)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "TTL", lease.TTL, longTTL)
		if _, err = client.Put(ctx, p, "v", clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
		told, err := client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "granted", told.GrantedTTL, longTTL)
		wantEqual(t, "keys", fmt.Sprintf("%s", told.Keys), "["+p+"]")
		once, err := client.KeepAliveOnce(ctx, lease.ID)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "renewed", once.TTL, longTTL)
		renewals, err := client.KeepAlive(ctx, lease.ID)
		if err != nil {
			t.Fatal(err)
		}
		if renewal := <-renewals; renewal == nil || renewal.TTL != longTTL {
			t.Errorf("renewal %v", renewal)
		}
		all, err := client.Leases(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(all.Leases, clientv3.LeaseStatus{ID: lease.ID}) {
			t.Errorf("%v lacks %d", all.Leases, lease.ID)
		}
		if _, err = client.Revoke(ctx, lease.ID); err != nil {
			t.Fatal(err)
		}
		if kv := of[0].get(t, p); kv != nil {
			t.Errorf("left: %v", kv)
		}
		told, err = client.TimeToLive(ctx, lease.ID)
		if err != nil || told.TTL != -1 {
			t.Errorf("time to live: %v, %v", told, err)
		}

		_, grantErr := client.Grant(ctx, longestTTL+1)
		_, revokeErr := client.Revoke(ctx, lease.ID)
		_, onceErr := client.KeepAliveOnce(ctx, lease.ID)
		_, putErr := client.Put(ctx, p, "", clientv3.WithLease(lease.ID))
		for what, got := range map[string]struct{ err, want error }{
			"grant":      {grantErr, rpctypes.ErrLeaseTTLTooLarge},
			"revoke":     {revokeErr, rpctypes.ErrLeaseNotFound},
			"keep alive": {onceErr, rpctypes.ErrLeaseNotFound},
			"put":        {putErr, rpctypes.ErrLeaseNotFound},
		} {
			if !errors.Is(got.err, got.want) {
				t.Errorf("%s: got %v, want %v", what, got.err, got.want)
			}
		}
	}
}

// The library keeps a session's lease alive; what it holds goes with it.
func TestClientSession(t *testing.T) {
	for _, of := range append([][]*member{members}, eachAlone()...) {
		client, p := newClient(t, of...), newPrefix(t)
		session, err := concurrency.NewSession(client, concurrency.WithTTL(60))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = client.Put(testContext(t), p, "", clientv3.WithLease(session.Lease())); err != nil {
			t.Fatal(err)
		}
		// Whoever revokes it ends the session.
		other := members[len(members)-1]
		other.revoke(t, int64(session.Lease()))
		if _, err = client.KeepAliveOnce(testContext(t), session.Lease()); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			t.Errorf("renewed: %v", err)
		}
		if kv := other.get(t, p); kv != nil {
			t.Errorf("left: %v", kv)
		}
		second, err := concurrency.NewSession(client, concurrency.WithTTL(60))
		if err != nil {
			t.Fatal(err)
		}
		if err = second.Close(); err != nil {
			t.Fatal(err)
		}
		<-second.Done()
		wantEqual(t, "time to live", of[0].timeToLive(t, int64(second.Lease()), false).TTL, -1)
	}
}

// newSession is a session of a client of its own.
func newSession(t *testing.T, of ...*member) *concurrency.Session {
	t.Helper()
	session, err := concurrency.NewSession(newClient(t, of...), concurrency.WithTTL(60))
	if err != nil {
		t.Fatal(err)
	}
	// The client may be gone before.
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// Owners through all members, one at a time.
func TestClientMutexExcludes(t *testing.T) {
	const workers, turns = 6, 5
	p := newPrefix(t)
	members[0].put(t, p+"counter", "")
	var group sync.WaitGroup
	failures := make(chan error, workers)
	for w := range workers {
		session := newSession(t, members[w%len(members)])
		group.Go(func() {
			client, mutex := session.Client(), concurrency.NewMutex(session, p+"lock")
			for range turns {
				if err := ownedIncrement(testContext(t), client, mutex, p+"counter"); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	wantEqual(t, "turns", len(members[0].get(t, p+"counter").Value), workers*turns)
	wantEqual(t, "left", keysOf(members[0].list(t, p), p), "counter")
}

// ownedIncrement lengthens a value in two steps that only the lock makes one.
func ownedIncrement(ctx context.Context, client *clientv3.Client, mutex *concurrency.Mutex, key string) error {
	if err := mutex.Lock(ctx); err != nil {
		return err
	}
	owned, err := client.Txn(ctx).If(mutex.IsOwner()).Then(clientv3.OpGet(key)).Commit()
	if err != nil {
		return err
	}
	if !owned.Succeeded {
		return errors.New("locked, but not the owner")
	}
	value := string(owned.Responses[0].GetResponseRange().Kvs[0].Value)
	if _, err = client.Put(ctx, key, value+"x"); err != nil {
		return err
	}
	return mutex.Unlock(ctx)
}

func TestClientMutex(t *testing.T) {
	p := newPrefix(t)
	one, two := newSession(t, members[0]), newSession(t, members[len(members)-1])
	held, wanted := concurrency.NewMutex(one, p), concurrency.NewMutex(two, p)
	ctx := testContext(t)
	if err := held.TryLock(ctx); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "key", held.Key(), fmt.Sprintf("%s/%x", p, one.Lease()))
	if err := wanted.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		t.Errorf("try: %v", err)
	}
	// A wait can be given up. Its key may stay: the client removes it only if
	// it has had the reply that made it.
	short, cancel := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- wanted.Lock(short) }()
	waitForKeys(t, p, 2)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	// The end of a session frees its locks.
	go func() { done <- wanted.Lock(ctx) }()
	waitForKeys(t, p, 2)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := held.Unlock(ctx); err != nil {
		t.Errorf("unlock of what is gone: %v", err)
	}
	if err := wanted.Unlock(ctx); err != nil {
		t.Error(err)
	}
	wantEqual(t, "left", keysOf(members[0].list(t, p), p), "")
}

// waitForKeys returns when so many keys begin with the prefix.
func waitForKeys(t *testing.T, prefix string, n int) {
	t.Helper()
	watch := newClient(t).Watch(testContext(t), prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	for range watch {
		if len(members[0].list(t, prefix)) == n {
			return
		}
	}
	t.Fatalf("never %d keys", n)
}

func TestClientElection(t *testing.T) {
	p := newPrefix(t)
	ctx := testContext(t)
	first := concurrency.NewElection(newSession(t, members[0]), p)
	second := concurrency.NewElection(newSession(t, members[len(members)-1]), p)
	if _, err := first.Leader(ctx); !errors.Is(err, concurrency.ErrElectionNoLeader) {
		t.Errorf("no leader: %v", err)
	}
	if err := first.Proclaim(ctx, ""); !errors.Is(err, concurrency.ErrElectionNotLeader) {
		t.Errorf("proclaim: %v", err)
	}
	observed := concurrency.NewElection(newSession(t), p).Observe(ctx)
	if err := first.Campaign(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		resp, ok := <-observed
		if !ok {
			t.Fatal("observed no more")
		}
		wantEqual(t, "observed", string(resp.Kvs[0].Value), want)
	}
	expect("one")
	if err := first.Proclaim(ctx, "one again"); err != nil {
		t.Fatal(err)
	}
	expect("one again")
	elected := make(chan error, 1)
	go func() { elected <- second.Campaign(ctx, "two") }()
	waitForKeys(t, p, 2)
	leader, err := second.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "leader", strings.TrimPrefix(string(leader.Kvs[0].Key), p+"/"), fmt.Sprintf("%x", leader.Kvs[0].Lease))
	wantEqual(t, "value", string(leader.Kvs[0].Value), "one again")
	if err := first.Resign(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-elected; err != nil {
		t.Fatal(err)
	}
	expect("two")
	if err := first.Proclaim(ctx, "late"); !errors.Is(err, concurrency.ErrElectionNotLeader) {
		t.Errorf("late: %v", err)
	}
	if err := second.Resign(ctx); err != nil {
		t.Fatal(err)
	}
}

// The library's caching client lives of leases, transactions and watches at once.
func TestClientLeasing(t *testing.T) {
	p := newPrefix(t)
	ctx := testContext(t)
	var caches []clientv3.KV
	for _, m := range members {
		kv, closeKV, err := leasing.NewKV(newClient(t, m), p+"owners/")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(closeKV)
		caches = append(caches, kv)
	}
	for i := range 12 {
		value := fmt.Sprint(i)
		if _, err := caches[i%len(caches)].Put(ctx, p+"k", value); err != nil {
			t.Fatal(err)
		}
		for j := range caches {
			resp, err := caches[j].Get(ctx, p+"k")
			if err != nil {
				t.Fatal(err)
			}
			wantEqual(t, "value", string(resp.Kvs[0].Value), value)
		}
	}
}
