package conformance

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// model keeps the whole content at every revision: obviously right, and small
// enough for the few keys of a test.
type model struct {
	first    int64 // revision before the first write
	contents []map[string]*mvccpb.KeyValue
}

func newModel(first int64) *model {
	return &model{first: first, contents: []map[string]*mvccpb.KeyValue{{}}}
}

func (md *model) head() int64 { return md.first + int64(len(md.contents)) - 1 }

// next opens a new revision as a copy of the last.
func (md *model) next() map[string]*mvccpb.KeyValue {
	content := make(map[string]*mvccpb.KeyValue)
	for k, kv := range md.contents[len(md.contents)-1] {
		content[k] = kv
	}
	md.contents = append(md.contents, content)
	return content
}

func (md *model) put(key, value string) {
	content := md.next()
	kv := &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), CreateRevision: md.head(), ModRevision: md.head(), Version: 1}
	if old := content[key]; old != nil {
		kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
	}
	content[key] = kv
}

// delete removes the keys in [key, end) and returns them; without one there is no new revision.
func (md *model) delete(key, end string) []*mvccpb.KeyValue {
	removed := md.rangeOf(md.head(), key, end)
	if len(removed) > 0 {
		content := md.next()
		for _, kv := range removed {
			delete(content, string(kv.Key))
		}
	}
	return removed
}

// rangeOf gives the keys in [key, end), or the one key if there is no end.
func (md *model) rangeOf(revision int64, key, end string) []*mvccpb.KeyValue {
	var kvs []*mvccpb.KeyValue
	for k, kv := range md.contents[revision-md.first] {
		if end == "" && k == key || key <= k && k < end {
			kvs = append(kvs, kv)
		}
	}
	slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	return kvs
}

// answer computes the reply to a range with a sort order or without a target.
func (md *model) answer(r *pb.RangeRequest) *pb.RangeResponse {
	revision := r.Revision
	if revision == 0 {
		revision = md.head()
	}
	kvs := md.rangeOf(revision, string(r.Key), string(r.RangeEnd))
	reply := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: md.head()}, Count: int64(len(kvs))}
	if r.CountOnly {
		return reply
	}
	kvs = slices.DeleteFunc(kvs, func(kv *mvccpb.KeyValue) bool {
		return r.MaxModRevision != 0 && kv.ModRevision > r.MaxModRevision ||
			kv.ModRevision < r.MinModRevision ||
			r.MaxCreateRevision != 0 && kv.CreateRevision > r.MaxCreateRevision ||
			kv.CreateRevision < r.MinCreateRevision
	})
	if r.SortOrder != pb.RangeRequest_NONE {
		slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int { return compareBy(r.SortTarget, a, b) })
	}
	if r.SortOrder == pb.RangeRequest_DESCEND {
		slices.Reverse(kvs)
	}
	if r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs, reply.More = kvs[:r.Limit], true
	}
	for _, kv := range kvs {
		kv := proto.Clone(kv).(*mvccpb.KeyValue)
		if r.KeysOnly {
			kv.Value = nil
		}
		reply.Kvs = append(reply.Kvs, kv)
	}
	return reply
}

func compareBy(target pb.RangeRequest_SortTarget, a, b *mvccpb.KeyValue) int {
	switch target {
	case pb.RangeRequest_CREATE:
		return cmp.Compare(a.CreateRevision, b.CreateRevision)
	case pb.RangeRequest_MOD:
		return cmp.Compare(a.ModRevision, b.ModRevision)
	case pb.RangeRequest_VALUE:
		return bytes.Compare(a.Value, b.Value)
	default:
		return bytes.Compare(a.Key, b.Key)
	}
}

// TestModel compares random writes, spread over the members, and random ranges
// with the model. Sorting by version is left out: versions repeat, and the order
// of equals is not defined.
func TestModel(t *testing.T) {
	const writes, reads = 300, 600
	rnd := rand.New(rand.NewSource(seed()))
	t.Logf("%s=%d", seedEnv, seed())
	p := newPrefix(t)
	pick := func() *member { return members[rnd.Intn(len(members))] }
	// Few names, so that keys are rewritten, deleted and made anew often.
	name := func() string { return fmt.Sprintf("%s%c%c", p, 'a'+rnd.Intn(3), 'a'+rnd.Intn(4)) }

	md := newModel(members[0].revision(t))
	for i := range writes {
		m := pick()
		if rnd.Intn(5) > 0 {
			key, value := name(), fmt.Sprintf("%04d-%d", rnd.Intn(10000), i)
			md.put(key, value)
			wantEqual(t, "put revision", m.put(t, key, value).Header.Revision, md.head())
			continue
		}
		key, end := name(), ""
		if rnd.Intn(2) > 0 {
			end = name()
		}
		want := md.delete(key, end)
		resp := m.del(t, &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end), PrevKv: true})
		wantEqual(t, "delete revision", resp.Header.Revision, md.head())
		wantEqual(t, "deleted", resp.Deleted, int64(len(want)))
		wantKVs(t, "prev_kvs", resp.PrevKvs, want)
	}

	maybe := func(v int64) int64 {
		if rnd.Intn(4) > 0 {
			return 0
		}
		return v
	}
	revision := func() int64 { return md.first + 1 + int64(rnd.Intn(len(md.contents)-1)) }
	targets := []pb.RangeRequest_SortTarget{pb.RangeRequest_KEY, pb.RangeRequest_CREATE, pb.RangeRequest_MOD, pb.RangeRequest_VALUE}
	for range reads {
		r := &pb.RangeRequest{
			Key:               []byte(name()),
			Limit:             maybe(int64(rnd.Intn(8))),
			KeysOnly:          rnd.Intn(4) == 0,
			CountOnly:         rnd.Intn(8) == 0,
			Serializable:      rnd.Intn(4) == 0,
			MinModRevision:    maybe(revision()),
			MaxModRevision:    maybe(revision()),
			MinCreateRevision: maybe(revision()),
			MaxCreateRevision: maybe(revision()),
		}
		if rnd.Intn(2) == 0 {
			r.Revision = revision()
		}
		switch rnd.Intn(4) {
		case 0:
			r.RangeEnd = []byte(name())
		case 1, 2:
			r.Key, r.RangeEnd = []byte(p), prefixEnd(p)
		}
		if r.SortOrder = pb.RangeRequest_SortOrder(rnd.Intn(3)); r.SortOrder != pb.RangeRequest_NONE {
			r.SortTarget = targets[rnd.Intn(len(targets))]
		}
		m := pick()
		if r.Serializable {
			m.revision(t) // makes the member catch up
		}
		got, want := m.rng(t, r), md.answer(r)
		got.Header = &pb.ResponseHeader{Revision: got.Header.Revision}
		wantProto(t, fmt.Sprintf("reply to %v", r), got, want)
		if t.Failed() {
			return
		}
	}
}
