package conformance

import (
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

func (m *member) status(t *testing.T) *pb.StatusResponse {
	t.Helper()
	resp, err := m.maint.Status(testContext(t), &pb.StatusRequest{})
	if err != nil {
		t.Fatalf("status of %s: %v", m.endpoint, err)
	}
	return resp
}

func (m *member) hashKV(t *testing.T, revision int64) *pb.HashKVResponse {
	t.Helper()
	resp, err := m.maint.HashKV(testContext(t), &pb.HashKVRequest{Revision: revision})
	if err != nil {
		t.Fatalf("hash of %s at %d: %v", m.endpoint, revision, err)
	}
	return resp
}

func TestHeaders(t *testing.T) {
	ids := make(map[uint64]bool)
	cluster := members[0].status(t).Header.ClusterId
	for _, m := range members {
		p := newPrefix(t)
		st := m.status(t)
		rev := m.revision(t)
		replies := []*pb.ResponseHeader{
			m.put(t, p, "").Header,
			m.rng(t, &pb.RangeRequest{Key: []byte(p)}).Header,
			m.txn(t, &pb.TxnRequest{}).Header,
			m.del(t, &pb.DeleteRangeRequest{Key: []byte(p)}).Header,
			m.txn(t, &pb.TxnRequest{Success: ops(opPut(p, ""))}).Header,
			m.rng(t, &pb.RangeRequest{Key: []byte(p), Revision: rev, Serializable: true}).Header,
		}
		for i, plus := range []int64{1, 1, 1, 2, 3, 3} {
			h := replies[i]
			wantEqual(t, "revision", h.Revision, rev+plus)
			wantEqual(t, "cluster_id", h.ClusterId, cluster)
			wantEqual(t, "member_id", h.MemberId, st.Header.MemberId)
			wantEqual(t, "raft_term", h.RaftTerm, st.RaftTerm)
		}
		if h := replies[0]; h.ClusterId == 0 || h.MemberId == 0 || h.RaftTerm == 0 {
			t.Errorf("header with a zero: %v", h)
		}
		ids[replies[0].MemberId] = true
	}
	wantEqual(t, "distinct member ids", len(ids), len(members))
}

func TestStatus(t *testing.T) {
	leader := members[0].status(t).Leader
	found := false
	for _, m := range members {
		rev := m.put(t, newPrefix(t), "").Header.Revision
		st := m.status(t)
		// A new cluster agrees on its version some seconds after its start.
		for deadline := time.Now().Add(callTimeout); st.StorageVersion != "3.7.0" && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
			st = m.status(t)
		}
		wantEqual(t, "storage_version", st.StorageVersion, "3.7.0")
		if !strings.HasPrefix(st.Version, "3.7.") {
			t.Errorf("version %q", st.Version)
		}
		wantEqual(t, "leader", st.Leader, leader)
		found = found || st.Header.MemberId == leader
		wantEqual(t, "revision", st.Header.Revision, rev)
		wantEqual(t, "raft_term in header", st.Header.RaftTerm, st.RaftTerm)
		if st.RaftTerm == 0 || st.RaftAppliedIndex == 0 || st.RaftAppliedIndex > st.RaftIndex {
			t.Errorf("term %d, applied %d, committed %d", st.RaftTerm, st.RaftAppliedIndex, st.RaftIndex)
		}
		if st.DbSizeInUse <= 0 || st.DbSize < st.DbSizeInUse || st.DbSizeQuota <= 0 {
			t.Errorf("size %d, in use %d, quota %d", st.DbSize, st.DbSizeInUse, st.DbSizeQuota)
		}
		wantEqual(t, "is_learner", st.IsLearner, false)
		wantEqual(t, "errors", strings.Join(st.Errors, ", "), "")
		wantProto(t, "downgrade_info", st.DowngradeInfo, &pb.DowngradeInfo{})
	}
	wantEqual(t, "the leader is a member", found, true)
}

func TestMemberList(t *testing.T) {
	first, err := members[0].cluster.MemberList(testContext(t), &pb.MemberListRequest{Linearizable: true})
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "members", len(first.Members), len(members))
	names := make(map[string]bool)
	var ids []uint64
	for _, listed := range first.Members {
		names[listed.Name] = true
		ids = append(ids, listed.ID)
		if listed.ID == 0 || listed.Name == "" || len(listed.PeerURLs) == 0 || len(listed.ClientURLs) == 0 || listed.IsLearner {
			t.Errorf("member %v", listed)
		}
	}
	wantEqual(t, "distinct names", len(names), len(members))
	wantEqual(t, "sorted by id", slices.IsSorted(ids), true)
	for _, m := range members {
		for _, linearizable := range []bool{false, true} {
			resp, err := m.cluster.MemberList(testContext(t), &pb.MemberListRequest{Linearizable: linearizable})
			if err != nil {
				t.Fatal(err)
			}
			st := m.status(t)
			wantEqual(t, "the member lists itself", slices.Contains(ids, resp.Header.MemberId), true)
			// No revision in this header.
			wantProto(t, "header", resp.Header, &pb.ResponseHeader{ClusterId: st.Header.ClusterId, MemberId: st.Header.MemberId, RaftTerm: st.RaftTerm})
			resp.Header, first.Header = nil, nil
			wantProto(t, "list of "+m.endpoint, resp, first)
		}
	}
}

// Hashes are compared at one revision and one compact revision: equal on every
// member, another one for other content. The compact revision itself is left out:
// once a member has finished compacting, etcd answers there with the hash that it
// kept from that, which belongs to the compact revision before.
func TestHashKV(t *testing.T) {
	p := newPrefix(t)
	m := members[0]
	m.putKeys(t, p, "a", "b", "a")
	m.del(t, &pb.DeleteRangeRequest{Key: []byte(p + "b")})
	rev := m.put(t, p+"c", "").Header.Revision
	m.compact(t, rev-3, true)

	hashes := make(map[uint32]int64)
	for at := rev - 2; at <= rev; at++ {
		want := m.hashKV(t, at)
		wantEqual(t, "hash_revision", want.HashRevision, at)
		wantEqual(t, "compact_revision", want.CompactRevision, rev-3)
		wantEqual(t, "header revision", want.Header.Revision, rev)
		if other, ok := hashes[want.Hash]; ok {
			t.Errorf("revisions %d and %d have one hash", other, at)
		}
		hashes[want.Hash] = at
		for _, other := range members[1:] {
			other.revision(t)
			got := other.hashKV(t, at)
			wantEqual(t, "hash of "+other.endpoint, got.Hash, want.Hash)
			wantEqual(t, "hash_revision of "+other.endpoint, got.HashRevision, at)
			wantEqual(t, "compact_revision of "+other.endpoint, got.CompactRevision, rev-3)
		}
	}
	for _, m := range members {
		head := m.hashKV(t, 0)
		wantEqual(t, "hash_revision of 0", head.HashRevision, rev)
		wantEqual(t, "hash of 0", hashes[head.Hash], rev)
		_, err := m.maint.HashKV(testContext(t), &pb.HashKVRequest{Revision: rev + 1})
		wantError(t, err, codes.OutOfRange, futureText)
		_, err = m.maint.HashKV(testContext(t), &pb.HashKVRequest{Revision: rev - 4})
		wantError(t, err, codes.OutOfRange, compactedText)
	}
	// What was hashed stays as it was, whatever is written later.
	before := m.hashKV(t, rev).Hash
	m.put(t, p+"d", "")
	wantEqual(t, "hash after a write", m.hashKV(t, rev).Hash, before)
}

// Hash covers a member's own backend, so members may differ.
func TestHash(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		rev := m.put(t, newPrefix(t), "").Header.Revision
		resp, err := m.maint.Hash(testContext(t), &pb.HashRequest{})
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "revision", resp.Header.Revision, rev)
		wantEqual(t, "member_id", resp.Header.MemberId, m.status(t).Header.MemberId)
	})
}

func TestDefragment(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.putKeys(t, p, "a", "b", "c")
		before := m.list(t, p)
		hash := m.hashKV(t, 0)
		resp, err := m.maint.Defragment(testContext(t), &pb.DefragmentRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if resp.Header != nil {
			t.Errorf("header %v: etcd sends none", resp.Header)
		}
		wantKVs(t, "after", m.list(t, p), before)
		wantEqual(t, "hash", m.hashKV(t, 0).Hash, hash.Hash)
	})
}

func TestNoAlarms(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		resp, err := m.maint.Alarm(testContext(t), &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "alarms", len(resp.Alarms), 0)
		wantEqual(t, "member_id", resp.Header.MemberId, m.status(t).Header.MemberId)
	})
}

func TestHealth(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		client := grpc_health_v1.NewHealthClient(m.conn)
		resp, err := client.Check(testContext(t), &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "check", resp.Status, grpc_health_v1.HealthCheckResponse_SERVING)
		stream, err := client.Watch(testContext(t), &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if resp, err = stream.Recv(); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "watch", resp.Status, grpc_health_v1.HealthCheckResponse_SERVING)
		_, err = client.Check(testContext(t), &grpc_health_v1.HealthCheckRequest{Service: "no.such.Service"})
		wantEqual(t, "unknown service", status.Code(err), codes.NotFound)
	})
}

// The description of such an error is the gRPC library's, not etcd's.
func TestUnknownMethods(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		for _, method := range []string{
			"/etcdserverpb.KV/NoSuchMethod",
			"/etcdserverpb.Maintenance/NoSuchMethod",
			"/etcdserverpb.NoSuchService/Range",
			"/no.such.Service/Method",
		} {
			err := m.conn.Invoke(testContext(t), method, &emptypb.Empty{}, &emptypb.Empty{})
			wantEqual(t, method, status.Code(err), codes.Unimplemented)
		}
	})
}

// What clients send along is accepted, be it known to the server or not.
func TestRequestMetadata(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		ctx := metadata.AppendToOutgoingContext(testContext(t),
			"hasleader", "true", "client-api-version", "3.7.3", "x-unknown", "value", "x-unknown-bin", "\x00\xff")
		if _, err := m.kv.Put(ctx, &pb.PutRequest{Key: []byte(newPrefix(t))}); err != nil {
			t.Error(err)
		}
	})
}
