package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
)

const (
	// longTTL is more than any run takes, in seconds.
	longTTL = 3600
	// longestTTL is the longest that is granted, in seconds.
	longestTTL = 9_000_000_000
)

func (m *member) lease() pb.LeaseClient { return pb.NewLeaseClient(m.conn) }

// grant makes a lease that is revoked when the test ends.
func (m *member) grant(t *testing.T, id, ttl int64) *pb.LeaseGrantResponse {
	t.Helper()
	resp, err := m.lease().LeaseGrant(testContext(t), &pb.LeaseGrantRequest{ID: id, TTL: ttl})
	if err != nil {
		t.Fatalf("grant %d for %d s: %v", id, ttl, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		// The test may have revoked it.
		_, _ = m.lease().LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: resp.ID})
	})
	return resp
}

func (m *member) revoke(t *testing.T, id int64) *pb.LeaseRevokeResponse {
	t.Helper()
	resp, err := m.lease().LeaseRevoke(testContext(t), &pb.LeaseRevokeRequest{ID: id})
	if err != nil {
		t.Fatalf("revoke %d: %v", id, err)
	}
	return resp
}

func (m *member) timeToLive(t *testing.T, id int64, keys bool) *pb.LeaseTimeToLiveResponse {
	t.Helper()
	resp, err := m.lease().LeaseTimeToLive(testContext(t), &pb.LeaseTimeToLiveRequest{ID: id, Keys: keys})
	if err != nil {
		t.Fatalf("time to live of %d: %v", id, err)
	}
	return resp
}

// leased gives the keys of a lease without the test's prefix, joined by a blank.
// They come in no order.
func (m *member) leased(t *testing.T, id int64, prefix string) string {
	t.Helper()
	resp := m.timeToLive(t, id, true)
	names := make([]string, len(resp.Keys))
	for i, key := range resp.Keys {
		names[i] = strings.TrimPrefix(string(key), prefix)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (m *member) leases(t *testing.T) []int64 {
	t.Helper()
	// Not from the log: only what this member has applied.
	m.revision(t)
	resp, err := m.lease().LeaseLeases(testContext(t), &pb.LeaseLeasesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var ids []int64
	for _, lease := range resp.Leases {
		ids = append(ids, lease.ID)
	}
	return ids
}

// keepAlive is one stream of renewals.
func (m *member) keepAlive(t *testing.T) pb.Lease_LeaseKeepAliveClient {
	t.Helper()
	stream, err := m.lease().LeaseKeepAlive(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func (m *member) renew(t *testing.T, id int64) int64 {
	t.Helper()
	stream := m.keepAlive(t)
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "id of a renewal", resp.ID, id)
	return resp.TTL
}

func wantHeader(t *testing.T, what string, got, like *pb.ResponseHeader, revision int64) {
	t.Helper()
	want := &pb.ResponseHeader{ClusterId: like.ClusterId, MemberId: like.MemberId, RaftTerm: like.RaftTerm, Revision: revision}
	wantProto(t, "header of "+what, got, want)
}

func TestLeaseGrant(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		like := m.rng(t, &pb.RangeRequest{Key: []byte("conformance")}).Header
		id := time.Now().UnixNano()
		for _, c := range []struct {
			what         string
			id, ttl, got int64
		}{
			{"a chosen id", id, longTTL, longTTL},
			{"a negative id", -id, longTTL, longTTL},
			{"the longest TTL", id + 1, longestTTL, longestTTL},
		} {
			resp := m.grant(t, c.id, c.ttl)
			wantHeader(t, c.what, resp.Header, like, like.Revision)
			wantProto(t, c.what, resp, &pb.LeaseGrantResponse{Header: resp.Header, ID: c.id, TTL: c.got})
		}
		first, second := m.grant(t, 0, longTTL), m.grant(t, 0, longTTL)
		if first.ID <= 0 || second.ID <= 0 || first.ID == second.ID {
			t.Errorf("generated ids %d and %d", first.ID, second.ID)
		}
		// A lease is not a change of the store.
		wantEqual(t, "revision", m.revision(t), like.Revision)
	})
}

// A lease must outlive an election: shorter times are lengthened, all alike.
func TestLeaseGrantShort(t *testing.T) {
	var shortest int64
	onEachMember(t, func(t *testing.T, m *member) {
		for _, ttl := range []int64{1, 0, -1, -1 << 62} {
			resp := m.grant(t, 0, ttl)
			if shortest == 0 {
				shortest = resp.TTL
			}
			if resp.TTL < 1 || resp.TTL != shortest {
				t.Errorf("%d s gave %d s, before %d s", ttl, resp.TTL, shortest)
			}
			wantEqual(t, "granted", m.timeToLive(t, resp.ID, false).GrantedTTL, resp.TTL)
		}
	})
}

func TestLeaseRefusals(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		lease, ctx := m.lease(), testContext(t)
		taken := m.grant(t, 0, longTTL).ID
		rev := m.revision(t)
		for _, ttl := range []int64{longestTTL + 1, 1<<63 - 1} {
			_, err := lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: ttl})
			wantError(t, err, codes.OutOfRange, "etcdserver: too large lease TTL")
			_, err = lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: taken, TTL: ttl})
			wantError(t, err, codes.OutOfRange, "etcdserver: too large lease TTL")
		}
		_, err := lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: taken, TTL: longTTL})
		wantError(t, err, codes.FailedPrecondition, "etcdserver: lease already exists")
		for _, id := range []int64{unknownLease, 0, -1} {
			_, err = lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id})
			wantError(t, err, codes.NotFound, leaseNotFoundText)
			if id == 0 {
				continue
			}
			_, err = m.kv.Put(ctx, &pb.PutRequest{Key: []byte(newPrefix(t)), Lease: id})
			wantError(t, err, codes.NotFound, leaseNotFoundText)
		}
		wantEqual(t, "revision", m.revision(t), rev)
	})
}

// What is not there: no error, and numbers that no lease has.
func TestLeaseUnknown(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		revoked := m.grant(t, 0, longTTL).ID
		m.revoke(t, revoked)
		for _, id := range []int64{unknownLease, 0, -1, revoked} {
			resp := m.timeToLive(t, id, true)
			wantProto(t, "time to live", resp, &pb.LeaseTimeToLiveResponse{Header: resp.Header, ID: id, TTL: -1})
			wantEqual(t, "renewed", m.renew(t, id), 0)
		}
	})
}

func TestLeaseTimeToLive(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		id := m.grant(t, 0, longTTL).ID
		m.doPut(t, &pb.PutRequest{Key: []byte(p + "a"), Lease: id})
		for _, reader := range members {
			// The header's revision is that of the member's own state.
			like := reader.rng(t, &pb.RangeRequest{Key: []byte("conformance")}).Header
			resp := reader.timeToLive(t, id, false)
			wantHeader(t, "time to live", resp.Header, like, like.Revision)
			// Whole seconds, rounded down, of a lease that is being used up.
			if resp.TTL < longTTL-60 || resp.TTL >= longTTL {
				t.Errorf("%d s left", resp.TTL)
			}
			wantProto(t, "without keys", resp, &pb.LeaseTimeToLiveResponse{Header: resp.Header, ID: id, TTL: resp.TTL, GrantedTTL: longTTL})
			wantEqual(t, "keys", reader.leased(t, id, p), "a")
		}
	})
}

func TestLeaseLeases(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		granted := []int64{m.grant(t, 0, longTTL).ID, m.grant(t, 0, longTTL).ID, m.grant(t, 0, longTTL).ID}
		count := len(m.leases(t))
		for _, reader := range members {
			ids := reader.leases(t)
			for _, id := range granted {
				if !slices.Contains(ids, id) {
					t.Errorf("%d is not among %v", id, ids)
				}
			}
		}
		m.revoke(t, granted[1])
		for _, reader := range members {
			ids := reader.leases(t)
			wantEqual(t, "leases", len(ids), count-1)
			if slices.Contains(ids, granted[1]) {
				t.Errorf("%d is among %v", granted[1], ids)
			}
		}
	})
}

// A key belongs to the lease of its last put, and to none when it is gone.
func TestLeaseAttachment(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		one, two := m.grant(t, 0, longTTL).ID, m.grant(t, 0, longTTL).ID
		put := func(key string, lease int64) *pb.PutRequest {
			return &pb.PutRequest{Key: []byte(p + key), Value: []byte("v"), Lease: lease}
		}
		check := func(what, ofOne, ofTwo string) {
			t.Helper()
			wantEqual(t, what+": first lease", m.leased(t, one, p), ofOne)
			wantEqual(t, what+": second lease", m.leased(t, two, p), ofTwo)
		}
		m.doPut(t, put("a", one))
		m.doPut(t, put("b", one))
		m.doPut(t, put("c", two))
		check("attached", "a b", "c")
		m.doPut(t, put("a", two))
		check("attached to another", "b", "a c")
		wantEqual(t, "lease of the key", m.get(t, p+"a").Lease, two)
		m.doPut(t, put("a", two))
		check("attached again", "b", "a c")
		m.doPut(t, &pb.PutRequest{Key: []byte(p + "a"), Value: []byte("w"), IgnoreLease: true})
		check("lease ignored", "b", "a c")
		m.doPut(t, &pb.PutRequest{Key: []byte(p + "a"), Lease: one, IgnoreValue: true})
		check("value ignored", "a b", "c")
		m.doPut(t, put("a", 0))
		check("detached", "b", "c")
		m.del(t, &pb.DeleteRangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p)})
		check("deleted", "", "")

		leasedPut := func(key string, lease int64) *pb.RequestOp {
			return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put(key, lease)}}
		}
		m.txn(t, &pb.TxnRequest{Success: []*pb.RequestOp{leasedPut("a", one), leasedPut("b", two), leasedPut("c", one)}})
		check("by a transaction", "a c", "b")
		_, err := m.kv.Txn(testContext(t), &pb.TxnRequest{Success: []*pb.RequestOp{leasedPut("a", two), leasedPut("b", unknownLease)}})
		wantError(t, err, codes.NotFound, leaseNotFoundText)
		check("by a transaction that fails", "a c", "b")
	})
}

// All keys of a lease go in one revision, in order, with the lease.
func TestLeaseRevoke(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		id := m.grant(t, 0, longTTL).ID
		for _, key := range []string{"c", "a", "b"} {
			m.doPut(t, &pb.PutRequest{Key: []byte(p + key), Value: []byte(key), Lease: id})
		}
		m.put(t, p+"other", "")
		rev := m.revision(t)
		var told []func()
		for _, reader := range members {
			w := reader.watch(t)
			watch := w.create(&pb.WatchCreateRequest{Key: []byte(p), RangeEnd: prefixEnd(p), PrevKv: true})
			told = append(told, func() {
				var seen []string
				for _, event := range w.events(watch, 3) {
					wantEqual(t, "type", event.Type, mvccpb.DELETE)
					wantEqual(t, "revision", event.Kv.ModRevision, rev+1)
					wantEqual(t, "lease before", event.PrevKv.GetLease(), id)
					seen = append(seen, strings.TrimPrefix(string(event.Kv.Key), p))
				}
				wantEqual(t, "deleted", strings.Join(seen, " "), "a b c")
			})
		}
		like := m.rng(t, &pb.RangeRequest{Key: []byte("conformance")}).Header
		wantHeader(t, "revoke", m.revoke(t, id).Header, like, rev+1)
		for _, check := range told {
			check()
		}
		wantEqual(t, "left", keysOf(m.list(t, p), p), "other")
		_, err := m.lease().LeaseRevoke(testContext(t), &pb.LeaseRevokeRequest{ID: id})
		wantError(t, err, codes.NotFound, leaseNotFoundText)

		// Without keys there is nothing to change.
		id = m.grant(t, 0, longTTL).ID
		wantHeader(t, "revoke", m.revoke(t, id).Header, like, rev+1)

		// The id is free again, and the new lease has none of the old one's keys.
		m.grant(t, id, longTTL)
		wantEqual(t, "keys", m.leased(t, id, p), "")
	})
}

func TestLeaseKeepAlive(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		var ids []int64
		for i := range 5 {
			ids = append(ids, m.grant(t, 0, longTTL+int64(i)).ID)
		}
		like := m.rng(t, &pb.RangeRequest{Key: []byte("conformance")}).Header
		stream := m.keepAlive(t)
		// Many requests before the first answer is read: the answers keep their order.
		const requests = 2000
		sent := make(chan error, 1)
		nth := func(i int) int64 {
			if i%7 == 6 {
				return unknownLease
			}
			return ids[i%len(ids)]
		}
		go func() {
			for i := range requests {
				if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: nth(i)}); err != nil {
					sent <- err
					return
				}
			}
			sent <- stream.CloseSend()
		}()
		for i := range requests {
			resp, err := stream.Recv()
			if err != nil {
				t.Fatalf("answer %d: %v", i, err)
			}
			want := &pb.LeaseKeepAliveResponse{Header: resp.Header, ID: nth(i)}
			if want.ID != unknownLease {
				want.TTL = longTTL + int64(i%len(ids))
			}
			if i%100 == 0 {
				wantHeader(t, "a renewal", resp.Header, like, like.Revision)
			}
			wantProto(t, fmt.Sprintf("answer %d", i), resp, want)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		// The server ends what the client has ended.
		if resp, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v, %v", resp, err)
		}
	})
}

// A lease that nobody renews ends: its keys are deleted in one revision, not
// before its time, and every member tells the same.
func TestLeaseExpires(t *testing.T) {
	p := newPrefix(t)
	type watched struct {
		stream *watchStream
		id     int64
	}
	var watches []watched
	for _, m := range members {
		w := m.watch(t)
		watches = append(watches, watched{w, w.create(&pb.WatchCreateRequest{Key: []byte(p), RangeEnd: prefixEnd(p)})})
	}
	began := time.Now()
	lease := members[0].grant(t, 0, 1)
	for i := range 20 {
		m := members[i%len(members)]
		m.doPut(t, &pb.PutRequest{Key: fmt.Appendf(nil, "%s%02d", p, i), Lease: lease.ID})
	}
	rev := members[0].revision(t)
	for i, w := range watches {
		w.stream.events(w.id, 20)
		for n, event := range w.stream.events(w.id, 20) {
			wantEqual(t, "type", event.Type, mvccpb.DELETE)
			wantEqual(t, "revision", event.Kv.ModRevision, rev+1)
			wantEqual(t, "key", string(event.Kv.Key), fmt.Sprintf("%s%02d", p, n))
		}
		if lived := time.Since(began); lived < time.Duration(lease.TTL)*time.Second {
			t.Errorf("member %d: a lease of %d s lived %v", i, lease.TTL, lived)
		}
	}
	for _, m := range members {
		wantEqual(t, "revision", m.revision(t), rev+1)
		wantEqual(t, "time to live", m.timeToLive(t, lease.ID, false).TTL, -1)
		wantEqual(t, "renewed", m.renew(t, lease.ID), 0)
		if slices.Contains(m.leases(t), lease.ID) {
			t.Error("the lease is listed")
		}
	}
}

// Renewals through any member keep a lease. On a machine that stands still it
// may end, but only when nobody has renewed it for its time to live.
func TestLeaseIsKept(t *testing.T) {
	p := newPrefix(t)
	lease := members[0].grant(t, 0, 1)
	ttl := time.Duration(lease.TTL) * time.Second
	members[0].doPut(t, &pb.PutRequest{Key: []byte(p), Lease: lease.ID})
	var streams []pb.Lease_LeaseKeepAliveClient
	for _, m := range members {
		streams = append(streams, m.keepAlive(t))
	}
	renewed := time.Now()
	pause := time.NewTicker(ttl / 8)
	defer pause.Stop()
	for i := range 20 {
		<-pause.C
		stream, asked := streams[i%len(streams)], time.Now()
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: lease.ID}); err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if resp.TTL == 0 {
			if waited := time.Since(renewed); waited < ttl {
				t.Errorf("ended after %v", waited)
			}
			t.Skip("the machine stood still")
		}
		wantEqual(t, "renewed", resp.TTL, lease.TTL)
		if kv := members[i%len(members)].get(t, p); kv == nil && time.Since(asked) < ttl {
			t.Error("the key is gone")
		}
		renewed = asked
	}
}
