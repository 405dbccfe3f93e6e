package conformance

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
)

const (
	valueProvidedText = "etcdserver: value is provided"
	leaseProvidedText = "etcdserver: lease is provided"
	leaseNotFoundText = "etcdserver: requested lease not found"
	// unknownLease is an id that no client of the cluster grants.
	unknownLease = 0x7eadbeefcafe
)

func TestPutRevisions(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		key := []byte(p + "k")
		base := m.revision(t)
		wantKV := func(value string, create, mod, version int64) {
			t.Helper()
			wantProto(t, "stored", m.get(t, p+"k"), &mvccpb.KeyValue{
				Key: key, Value: []byte(value), CreateRevision: base + create, ModRevision: base + mod, Version: version,
			})
		}
		wantEqual(t, "first put", m.put(t, p+"k", "a").Header.Revision, base+1)
		wantKV("a", 1, 1, 1)
		wantEqual(t, "second put", m.put(t, p+"k", "b").Header.Revision, base+2)
		wantKV("b", 1, 2, 2)
		wantEqual(t, "same value again", m.put(t, p+"k", "b").Header.Revision, base+3)
		wantKV("b", 1, 3, 3)
		m.del(t, &pb.DeleteRangeRequest{Key: key})
		m.put(t, p+"k", "c")
		wantKV("c", 5, 5, 1)
	})
}

func TestPutPrevKV(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		put := func(value string) *pb.PutResponse {
			return m.doPut(t, &pb.PutRequest{Key: []byte(p), Value: []byte(value), PrevKv: true})
		}
		first := put("a")
		if first.PrevKv != nil {
			t.Errorf("prev_kv of a new key: %v", first.PrevKv)
		}
		rev := first.Header.Revision
		wantProto(t, "prev_kv", put("b").PrevKv, &mvccpb.KeyValue{Key: []byte(p), Value: []byte("a"), CreateRevision: rev, ModRevision: rev, Version: 1})
		wantProto(t, "prev_kv", put("c").PrevKv, &mvccpb.KeyValue{Key: []byte(p), Value: []byte("b"), CreateRevision: rev, ModRevision: rev + 1, Version: 2})
		if resp := m.put(t, p, "d"); resp.PrevKv != nil {
			t.Errorf("prev_kv not asked for: %v", resp.PrevKv)
		}
		m.del(t, &pb.DeleteRangeRequest{Key: []byte(p)})
		if resp := put("e"); resp.PrevKv != nil {
			t.Errorf("prev_kv of a deleted key: %v", resp.PrevKv)
		}
	})
}

func TestPutBytes(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		m.put(t, p+string(all), string(all))
		wantEqual(t, "value of every byte", string(m.get(t, p+string(all)).Value), string(all))
		m.put(t, p+"empty", "")
		kv := m.get(t, p+"empty")
		if kv == nil || len(kv.Value) != 0 {
			t.Errorf("empty value: %v", kv)
		}
		long := make([]byte, 8<<10)
		m.put(t, p+string(long), "long key")
		wantEqual(t, "value of a long key", string(m.get(t, p+string(long)).Value), "long key")
		wantEqual(t, "keys", len(m.list(t, p)), 3)
	})
}

func TestPutIgnoreValue(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		rev := m.put(t, p+"k", "keep").Header.Revision
		resp := m.doPut(t, &pb.PutRequest{Key: []byte(p + "k"), IgnoreValue: true, PrevKv: true})
		wantProto(t, "prev_kv", resp.PrevKv, &mvccpb.KeyValue{Key: []byte(p + "k"), Value: []byte("keep"), CreateRevision: rev, ModRevision: rev, Version: 1})
		want := &mvccpb.KeyValue{Key: []byte(p + "k"), Value: []byte("keep"), CreateRevision: rev, ModRevision: rev + 1, Version: 2}
		wantProto(t, "stored", m.get(t, p+"k"), want)
		if resp := m.doPut(t, &pb.PutRequest{Key: []byte(p + "k"), IgnoreValue: true, IgnoreLease: true}); resp.PrevKv != nil {
			t.Errorf("prev_kv not asked for: %v", resp.PrevKv)
		}
		want.ModRevision, want.Version = rev+2, 3
		wantProto(t, "stored", m.get(t, p+"k"), want)
	})
}

func TestPutIgnoreLease(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		rev := m.put(t, p+"k", "old").Header.Revision
		m.doPut(t, &pb.PutRequest{Key: []byte(p + "k"), Value: []byte("new"), IgnoreLease: true})
		wantProto(t, "stored", m.get(t, p+"k"), &mvccpb.KeyValue{Key: []byte(p + "k"), Value: []byte("new"), CreateRevision: rev, ModRevision: rev + 1, Version: 2})
	})
}

func TestPutRefusals(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		present, deleted, missing := []byte(p+"present"), []byte(p+"deleted"), []byte(p+"missing")
		m.put(t, p+"present", "v")
		m.put(t, p+"deleted", "v")
		m.del(t, &pb.DeleteRangeRequest{Key: deleted})
		rev := m.revision(t)
		for _, c := range []struct {
			name    string
			request *pb.PutRequest
			code    codes.Code
			text    string
		}{
			{"empty key", &pb.PutRequest{Value: []byte("v")}, codes.InvalidArgument, emptyKeyText},
			{"empty key goes first", &pb.PutRequest{Value: []byte("v"), IgnoreValue: true}, codes.InvalidArgument, emptyKeyText},
			{"value and ignore_value", &pb.PutRequest{Key: present, Value: []byte("v"), IgnoreValue: true}, codes.InvalidArgument, valueProvidedText},
			{"lease and ignore_lease", &pb.PutRequest{Key: present, Lease: 1, IgnoreLease: true}, codes.InvalidArgument, leaseProvidedText},
			{"value goes before lease", &pb.PutRequest{Key: present, Value: []byte("v"), Lease: 1, IgnoreValue: true, IgnoreLease: true}, codes.InvalidArgument, valueProvidedText},
			{"ignore_value, missing key", &pb.PutRequest{Key: missing, IgnoreValue: true}, codes.InvalidArgument, keyNotFoundText},
			{"ignore_value, deleted key", &pb.PutRequest{Key: deleted, IgnoreValue: true}, codes.InvalidArgument, keyNotFoundText},
			{"ignore_lease, missing key", &pb.PutRequest{Key: missing, Value: []byte("v"), IgnoreLease: true}, codes.InvalidArgument, keyNotFoundText},
			{"unknown lease", &pb.PutRequest{Key: present, Value: []byte("v"), Lease: unknownLease}, codes.NotFound, leaseNotFoundText},
			{"negative lease", &pb.PutRequest{Key: present, Value: []byte("v"), Lease: -1}, codes.NotFound, leaseNotFoundText},
			{"unknown lease, missing key", &pb.PutRequest{Key: missing, Value: []byte("v"), Lease: unknownLease}, codes.NotFound, leaseNotFoundText},
			{"unknown lease goes before missing key", &pb.PutRequest{Key: missing, Lease: unknownLease, IgnoreValue: true}, codes.NotFound, leaseNotFoundText},
		} {
			t.Run(c.name, func(t *testing.T) {
				_, err := m.kv.Put(testContext(t), c.request)
				wantError(t, err, c.code, c.text)
			})
		}
		wantEqual(t, "revision after refused puts", m.revision(t), rev)
		wantEqual(t, "keys", keysOf(m.list(t, p), p), "present")
	})
}
