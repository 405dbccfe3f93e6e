package conformance

import (
	"fmt"
	"math"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
)

func (m *member) compact(t *testing.T, revision int64, physical bool) *pb.CompactionResponse {
	t.Helper()
	resp, err := m.kv.Compact(testContext(t), &pb.CompactionRequest{Revision: revision, Physical: physical})
	if err != nil {
		t.Fatalf("compact %d: %v", revision, err)
	}
	return resp
}

func TestCompactReads(t *testing.T) {
	for _, physical := range []bool{false, true} {
		t.Run(fmt.Sprintf("physical=%v", physical), func(t *testing.T) {
			onEachMember(t, func(t *testing.T, m *member) { compactReads(t, m, physical) })
		})
	}
}

func compactReads(t *testing.T, m *member, physical bool) {
	p := newPrefix(t)
	base := m.revision(t)
	// +1 a1, +2 b1, +3 a2, +4 b deleted, +5 c1, +6 a3, +7 b2
	m.put(t, p+"a", "a1")
	m.put(t, p+"b", "b1")
	m.put(t, p+"a", "a2")
	m.del(t, &pb.DeleteRangeRequest{Key: []byte(p + "b")})
	m.put(t, p+"c", "c1")
	m.put(t, p+"a", "a3")
	m.put(t, p+"b", "b2")
	history := make(map[int64][]*mvccpb.KeyValue)
	at := func(revision int64) *pb.RangeRequest {
		return &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), Revision: revision}
	}
	for rev := base + 1; rev <= base+7; rev++ {
		history[rev] = m.rng(t, at(rev)).Kvs
	}
	wantEqual(t, "before", keysOf(history[base+4], p), "a")

	floor := base + 4
	wantEqual(t, "header revision", m.compact(t, floor, physical).Header.Revision, base+7)
	for _, reader := range members {
		wantEqual(t, "revision", reader.revision(t), base+7)
		for rev := base + 1; rev <= base+7; rev++ {
			for _, r := range []*pb.RangeRequest{
				at(rev),
				{Key: []byte(p), RangeEnd: prefixEnd(p), Revision: rev, Serializable: true},
				{Key: []byte(p + "a"), Revision: rev},
			} {
				what := fmt.Sprintf("%s: base+%d, floor base+4", reader.endpoint, rev-base)
				resp, err := reader.kv.Range(testContext(t), r)
				if rev < floor {
					wantError(t, err, codes.OutOfRange, compactedText)
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", what, err)
				} else if r.RangeEnd != nil {
					wantKVs(t, what, resp.Kvs, history[rev])
				} else {
					wantKVs(t, what, resp.Kvs, history[rev][:1])
				}
			}
		}
	}
}

// Every way to read below the compact revision is refused, on every member.
func TestCompactRefusesReadsBelow(t *testing.T) {
	p := newPrefix(t)
	m := members[0]
	m.putKeys(t, p, "a", "a")
	rev := m.put(t, p+"a", "v").Header.Revision
	m.compact(t, rev, true)
	below := rev - 1
	for _, m := range members {
		m.revision(t) // has applied the compaction from here on
		for name, r := range map[string]*pb.RangeRequest{
			"plain":           {Key: []byte(p + "a")},
			"range":           {Key: []byte(p), RangeEnd: prefixEnd(p)},
			"missing key":     {Key: []byte(p + "x")},
			"count only":      {Key: []byte(p), CountOnly: true},
			"keys only":       {Key: []byte(p), KeysOnly: true},
			"serializable":    {Key: []byte(p), Serializable: true},
			"revision filter": {Key: []byte(p), MinModRevision: rev},
			"far below":       {Key: []byte(p), Revision: 1},
		} {
			t.Run(name, func(t *testing.T) {
				if r.Revision == 0 {
					r.Revision = below
				}
				_, err := m.kv.Range(testContext(t), r)
				wantError(t, err, codes.OutOfRange, compactedText)
			})
		}
		at := &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), Revision: below}
		chunks, err := m.stream(t, at)
		wantEqual(t, "messages", len(chunks), 0)
		wantError(t, err, codes.OutOfRange, compactedText)
		_, err = m.kv.Txn(testContext(t), &pb.TxnRequest{Success: ops(opRange(at))})
		wantError(t, err, codes.OutOfRange, compactedText)
		_, err = m.kv.Txn(testContext(t), &pb.TxnRequest{Success: ops(opPut(p+"x", ""), opRange(at))})
		wantError(t, err, codes.OutOfRange, compactedText)
		// Outside a transaction a negative revision means the head; inside it does not.
		_, err = m.kv.Txn(testContext(t), &pb.TxnRequest{Success: ops(opRange(&pb.RangeRequest{Key: []byte(p), Revision: -1}))})
		wantError(t, err, codes.OutOfRange, compactedText)
		wantEqual(t, "keys", keysOf(m.list(t, p), p), "a")
	}
}

func TestCompactRefusals(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.putKeys(t, p, "a", "a", "a")
		rev := m.revision(t)
		m.compact(t, rev-1, false)
		for _, physical := range []bool{false, true} {
			for _, c := range []struct {
				name     string
				revision int64
				text     string
			}{
				{"same again", rev - 1, compactedText},
				{"lower", rev - 2, compactedText},
				{"zero", 0, compactedText},
				{"negative", -1, compactedText},
				{"next", rev + 1, futureText},
				{"far future", math.MaxInt64, futureText},
			} {
				t.Run(fmt.Sprintf("%s physical=%v", c.name, physical), func(t *testing.T) {
					_, err := m.kv.Compact(testContext(t), &pb.CompactionRequest{Revision: c.revision, Physical: physical})
					wantError(t, err, codes.OutOfRange, c.text)
				})
			}
		}
		wantEqual(t, "revision", m.revision(t), rev)
		m.compact(t, rev, true)
	})
}

// Compaction at the head keeps what is alive and drops what is deleted; the keys
// go on from where they were.
func TestCompactAtHead(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.putKeys(t, p, "kept", "kept", "deleted")
		rev := m.del(t, &pb.DeleteRangeRequest{Key: []byte(p + "deleted")}).Header.Revision
		before := m.list(t, p)
		m.compact(t, rev, true)
		wantKVs(t, "after", m.list(t, p), before)
		kept := m.doPut(t, &pb.PutRequest{Key: []byte(p + "kept"), PrevKv: true})
		wantProto(t, "prev_kv", kept.PrevKv, before[0])
		wantEqual(t, "version", m.get(t, p+"kept").Version, 3)
		m.put(t, p+"deleted", "again")
		kv := m.get(t, p+"deleted")
		wantEqual(t, "version", kv.Version, 1)
		wantEqual(t, "create revision", kv.CreateRevision, rev+2)
	})
}
