package conformance

import (
	"errors"
	"fmt"
	"io"
	"math"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// stream collects the messages of one RangeStream call.
func (m *member) stream(t *testing.T, r *pb.RangeRequest) ([]*pb.RangeResponse, error) {
	t.Helper()
	client, err := m.kv.RangeStream(testContext(t), r)
	if err != nil {
		return nil, err
	}
	var chunks []*pb.RangeResponse
	for {
		chunk, err := client.Recv()
		if errors.Is(err, io.EOF) {
			return chunks, nil
		}
		if err != nil {
			return chunks, err
		}
		chunks = append(chunks, chunk.RangeResponse)
	}
}

// wantStreamed checks that the messages put together are the unary reply, and
// that header, more and count come with the last message only.
func wantStreamed(t *testing.T, m *member, r *pb.RangeRequest) []*pb.RangeResponse {
	t.Helper()
	chunks, err := m.stream(t, proto.Clone(r).(*pb.RangeRequest))
	if err != nil {
		t.Fatalf("stream %v: %v", r, err)
	}
	if len(chunks) == 0 {
		t.Fatalf("stream %v: no message", r)
	}
	whole := &pb.RangeResponse{}
	for i, chunk := range chunks {
		if chunk == nil {
			t.Fatalf("stream %v: message %d without range_response", r, i)
		}
		if i < len(chunks)-1 {
			if chunk.Header != nil || chunk.More || chunk.Count != 0 {
				t.Errorf("stream %v: message %d of %d has header %v, more %v, count %d", r, i+1, len(chunks), chunk.Header, chunk.More, chunk.Count)
			}
			if len(chunk.Kvs) == 0 {
				t.Errorf("stream %v: message %d of %d is empty", r, i+1, len(chunks))
			}
		}
		proto.Merge(whole, chunk)
	}
	wantProto(t, fmt.Sprintf("stream %v", r), whole, m.rng(t, r))
	return chunks
}

func TestRangeStreamEqualsRange(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		var old int64
		for i := range 60 {
			old = m.put(t, fmt.Sprintf("%s%03d", p, i), fmt.Sprint(i)).Header.Revision
		}
		m.del(t, &pb.DeleteRangeRequest{Key: []byte(p + "01"), RangeEnd: []byte(p + "02")})
		m.put(t, p+"000", "new")

		end := prefixEnd(p)
		for _, r := range []*pb.RangeRequest{
			{Key: []byte(p + "000")},
			{Key: []byte(p + "missing")},
			{Key: []byte(p), RangeEnd: end},
			{Key: []byte(p), RangeEnd: end, Serializable: true},
			{Key: []byte(p), RangeEnd: end, KeysOnly: true},
			{Key: []byte(p), RangeEnd: end, CountOnly: true},
			{Key: []byte(p), RangeEnd: end, Revision: old},
			{Key: []byte(p), RangeEnd: end, Revision: old, KeysOnly: true, Limit: 33},
			{Key: []byte(p), RangeEnd: end, Revision: -1},
			{Key: []byte(p), RangeEnd: end, SortOrder: pb.RangeRequest_ASCEND},
			{Key: []byte(p + "005"), RangeEnd: []byte(p + "005")},
			{Key: []byte(p + "005"), RangeEnd: []byte(p + "004")},
			{Key: []byte(p + "030"), RangeEnd: []byte(p + "040")},
		} {
			wantStreamed(t, m, r)
		}
		for _, limit := range []int64{1, 9, 10, 11, 29, 30, 31, 49, 50, 51, 1000, math.MaxInt64} {
			wantStreamed(t, m, &pb.RangeRequest{Key: []byte(p), RangeEnd: end, Limit: limit})
		}
	})
}

// A target sorts also without an order, as in a range, if one chunk holds all.
// Longer ranges are not compared: etcd sorts every chunk by itself.
func TestRangeStreamSortsByTarget(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		for i := range 10 {
			m.put(t, fmt.Sprintf("%s%d", p, (i+3)%10), fmt.Sprint((7*i)%10))
		}
		m.put(t, p+"4", "again")
		for name, target := range pb.RangeRequest_SortTarget_value {
			for _, keysOnly := range []bool{false, true} {
				r := &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), KeysOnly: keysOnly}
				r.SortTarget = pb.RangeRequest_SortTarget(target)
				if chunks := wantStreamed(t, m, r); len(chunks) != 1 || len(chunks[0].Kvs) != 10 {
					t.Errorf("by %s: %d messages", name, len(chunks))
				}
				r.Limit = 10
				wantStreamed(t, m, r)
			}
		}
	})
}

func TestRangeStreamSizes(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		for _, n := range []int{0, 1, 9, 10, 11, 20, 21, 100} {
			p := newPrefix(t)
			ops := make([]*pb.RequestOp, n)
			for i := range ops {
				ops[i] = opPut(fmt.Sprintf("%s%03d", p, i), "v")
			}
			if n > 0 {
				m.txn(t, &pb.TxnRequest{Success: ops})
			}
			chunks := wantStreamed(t, m, &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p)})
			if n == 100 && len(chunks) < 2 {
				t.Errorf("%d keys in %d message: not streamed", n, len(chunks))
			}
		}
	})
}

func TestRangeStreamOpenRange(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newTopPrefix()
		for i := range 25 {
			m.put(t, fmt.Sprintf("%s%02d", p, i), "v")
		}
		wantStreamed(t, m, &pb.RangeRequest{Key: []byte(p), RangeEnd: []byte{0}})
		wantStreamed(t, m, &pb.RangeRequest{Key: []byte(p), RangeEnd: []byte{0}, Limit: 24})
	})
}

// A stream shows one revision, however long its reader takes.
func TestRangeStreamShowsOneRevision(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		const keys = 60
		p := newPrefix(t)
		old := make([]byte, 64<<10)
		var rev int64
		for i := range keys {
			rev = m.doPut(t, &pb.PutRequest{Key: fmt.Appendf(nil, "%s%02d", p, i), Value: old}).Header.Revision
		}
		client, err := m.kv.RangeStream(testContext(t), &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p)})
		if err != nil {
			t.Fatal(err)
		}
		var last *pb.RangeResponse
		seen := 0
		for {
			chunk, err := client.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if last == nil {
				// Most of the reply is still to come: it exceeds every window.
				m.del(t, &pb.DeleteRangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p)})
				m.put(t, p+"00x", "new")
			}
			last = chunk.RangeResponse
			for _, kv := range last.Kvs {
				wantEqual(t, "key", string(kv.Key), fmt.Sprintf("%s%02d", p, seen))
				wantEqual(t, "value size", len(kv.Value), len(old))
				seen++
			}
		}
		wantEqual(t, "keys", seen, keys)
		wantEqual(t, "count", last.Count, keys)
		wantEqual(t, "header revision", last.Header.Revision, rev)
	})
}

func TestRangeStreamRefusals(t *testing.T) {
	const (
		orderText  = "RangeStream does not support custom sort orders"
		filterText = "RangeStream does not support revision filters"
	)
	onEachMember(t, func(t *testing.T, m *member) {
		future := m.revision(t) + 1000
		key := []byte(newPrefix(t))
		for _, c := range []struct {
			name    string
			request *pb.RangeRequest
			code    codes.Code
			text    string
		}{
			{"empty key", &pb.RangeRequest{}, codes.InvalidArgument, emptyKeyText},
			{"undefined order", &pb.RangeRequest{Key: key, SortOrder: 7}, codes.InvalidArgument, sortOptionText},
			{"undefined target", &pb.RangeRequest{Key: key, SortTarget: 7}, codes.InvalidArgument, sortOptionText},
			{"key descending", &pb.RangeRequest{Key: key, SortOrder: pb.RangeRequest_DESCEND}, codes.Unimplemented, orderText},
			{"mod ascending", &pb.RangeRequest{Key: key, SortOrder: pb.RangeRequest_ASCEND, SortTarget: pb.RangeRequest_MOD}, codes.Unimplemented, orderText},
			{"order goes before filter", &pb.RangeRequest{Key: key, SortOrder: pb.RangeRequest_DESCEND, MinModRevision: 1}, codes.Unimplemented, orderText},
			{"min mod", &pb.RangeRequest{Key: key, MinModRevision: 1}, codes.Unimplemented, filterText},
			{"max mod", &pb.RangeRequest{Key: key, MaxModRevision: 1}, codes.Unimplemented, filterText},
			{"min create", &pb.RangeRequest{Key: key, MinCreateRevision: 1}, codes.Unimplemented, filterText},
			{"max create", &pb.RangeRequest{Key: key, MaxCreateRevision: 1}, codes.Unimplemented, filterText},
			{"filter, count only", &pb.RangeRequest{Key: key, MaxCreateRevision: 1, CountOnly: true}, codes.Unimplemented, filterText},
			{"future", &pb.RangeRequest{Key: key, Revision: future}, codes.OutOfRange, futureText},
			{"future, count only", &pb.RangeRequest{Key: key, Revision: future, CountOnly: true}, codes.OutOfRange, futureText},
		} {
			t.Run(c.name, func(t *testing.T) {
				chunks, err := m.stream(t, c.request)
				wantEqual(t, "messages", len(chunks), 0)
				wantError(t, err, c.code, c.text)
			})
		}
	})
}
