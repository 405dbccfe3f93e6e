package conformance

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
)

func TestDeleteIntervals(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		for _, c := range []struct {
			name string
			key  string
			end  func(p string) []byte
			left string
		}{
			{"one key", "b", func(string) []byte { return nil }, "a bb c d"},
			{"missing key", "x", func(string) []byte { return nil }, "a b bb c d"},
			{"half open", "a", func(p string) []byte { return []byte(p + "c") }, "c d"},
			{"prefix", "b", func(p string) []byte { return prefixEnd(p + "b") }, "a c d"},
			{"empty", "b", func(p string) []byte { return []byte(p + "b") }, "a b bb c d"},
			{"inverted", "c", func(p string) []byte { return []byte(p + "a") }, "a b bb c d"},
			{"open", "bb", func(string) []byte { return []byte{0} }, "a b"},
			{"whole", "", prefixEnd, ""},
		} {
			t.Run(c.name, func(t *testing.T) {
				p := newTopPrefix()
				m.putKeys(t, p, "a", "b", "bb", "c", "d")
				rev := m.revision(t)
				before := m.list(t, p)
				resp := m.del(t, &pb.DeleteRangeRequest{Key: []byte(p + c.key), RangeEnd: c.end(p)})
				after := m.list(t, p)
				wantEqual(t, "left", keysOf(after, p), c.left)
				wantEqual(t, "deleted", resp.Deleted, int64(len(before)-len(after)))
				if len(resp.PrevKvs) != 0 {
					t.Errorf("prev_kvs not asked for: %v", resp.PrevKvs)
				}
				// However many keys go, they go in one revision; none, no revision.
				if resp.Deleted > 0 {
					rev++
				}
				wantEqual(t, "header revision", resp.Header.Revision, rev)
				wantEqual(t, "revision", m.revision(t), rev)
			})
		}
	})
}

func TestDeletePrevKVs(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.putKeys(t, p, "c", "a", "b", "a")
		want := m.list(t, p)
		resp := m.del(t, &pb.DeleteRangeRequest{Key: []byte(p + "a"), RangeEnd: []byte(p + "c"), PrevKv: true})
		wantKVs(t, "prev_kvs", resp.PrevKvs, want[:2])
		wantEqual(t, "deleted", resp.Deleted, 2)
		resp = m.del(t, &pb.DeleteRangeRequest{Key: []byte(p + "c"), PrevKv: true})
		wantKVs(t, "prev_kvs", resp.PrevKvs, want[2:])
		resp = m.del(t, &pb.DeleteRangeRequest{Key: []byte(p + "c"), PrevKv: true})
		wantEqual(t, "deleted again", resp.Deleted, 0)
		wantKVs(t, "prev_kvs of a deleted key", resp.PrevKvs, nil)
	})
}

func TestDeleteHistory(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.putKeys(t, p, "a", "b")
		before := m.list(t, p)
		rev := m.del(t, &pb.DeleteRangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p)}).Header.Revision
		wantKVs(t, "before the delete", m.rng(t, &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), Revision: rev - 1}).Kvs, before)
		wantKVs(t, "at the delete", m.rng(t, &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), Revision: rev}).Kvs, nil)
	})
}

func TestDeleteRefusals(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		_, err := m.kv.DeleteRange(testContext(t), &pb.DeleteRangeRequest{})
		wantError(t, err, codes.InvalidArgument, emptyKeyText)
		_, err = m.kv.DeleteRange(testContext(t), &pb.DeleteRangeRequest{RangeEnd: []byte{0}})
		wantError(t, err, codes.InvalidArgument, emptyKeyText)
	})
}
