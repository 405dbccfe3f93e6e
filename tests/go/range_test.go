package conformance

import (
	"fmt"
	"math"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
)

// The texts that a range or its kin can fail with.
const (
	emptyKeyText    = "etcdserver: key is not provided"
	sortOptionText  = "etcdserver: invalid sort option"
	compactedText   = "etcdserver: mvcc: required revision has been compacted"
	futureText      = "etcdserver: mvcc: required revision is a future revision"
	keyNotFoundText = "etcdserver: key not found"
)

// putKeys writes one key for each name, in the given order, with its name as its value.
func (m *member) putKeys(t *testing.T, prefix string, names ...string) {
	t.Helper()
	for _, name := range names {
		m.put(t, prefix+name, name)
	}
}

func TestRangeSingleKey(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		rev := m.put(t, p+"a", "1").Header.Revision
		m.put(t, p+"ab", "2")

		resp := m.rng(t, &pb.RangeRequest{Key: []byte(p + "a")})
		wantKVs(t, "one key", resp.Kvs, []*mvccpb.KeyValue{{
			Key: []byte(p + "a"), Value: []byte("1"), CreateRevision: rev, ModRevision: rev, Version: 1,
		}})
		wantEqual(t, "count", resp.Count, 1)
		wantEqual(t, "more", resp.More, false)

		resp = m.rng(t, &pb.RangeRequest{Key: []byte(p + "missing")})
		wantEqual(t, "keys of a missing key", len(resp.Kvs), 0)
		wantEqual(t, "count of a missing key", resp.Count, 0)
		wantEqual(t, "header revision", resp.Header.Revision, rev+1)
	})
}

func TestRangeIntervals(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newTopPrefix()
		m.putKeys(t, p, "a", "b", "b\x00", "bb", "c", "d")
		end := func(s string) []byte { return []byte(p + s) }
		for _, c := range []struct {
			name string
			key  string
			end  []byte
			want string
		}{
			{"half open", "a", end("c"), "a b b\x00 bb"},
			{"begin absent", "aa", end("c"), "b b\x00 bb"},
			{"end absent", "b", end("bz"), "b b\x00 bb"},
			{"one key by its successor", "b", end("b\x00"), "b"},
			{"empty, begin is end", "b", end("b"), ""},
			{"inverted", "c", end("a"), ""},
			{"between keys", "bc", end("bd"), ""},
			{"prefix", "b", prefixEnd(p + "b"), "b b\x00 bb"},
			{"open", "bb", []byte{0}, "bb c d"},
			{"open from an absent key", "bc", []byte{0}, "c d"},
			{"open beyond the last", "e", []byte{0}, ""},
			{"end of two zero bytes is not open", "a", []byte{0, 0}, ""},
			{"whole", "", prefixEnd(p), "a b b\x00 bb c d"},
		} {
			resp := m.rng(t, &pb.RangeRequest{Key: []byte(p + c.key), RangeEnd: c.end})
			wantEqual(t, c.name, keysOf(resp.Kvs, p), c.want)
			wantEqual(t, c.name+": count", resp.Count, int64(len(resp.Kvs)))
			wantEqual(t, c.name+": more", resp.More, false)
		}
	})
}

// The range of key "\0" and end "\0" holds every key.
func TestRangeEverything(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		all := func(r *pb.RangeRequest) *pb.RangeResponse {
			r.Key, r.RangeEnd = []byte{0}, []byte{0}
			return m.rng(t, r)
		}
		before := all(&pb.RangeRequest{CountOnly: true}).Count
		top := newTopPrefix()
		m.put(t, top, "")
		m.put(t, newPrefix(t), "")
		wantEqual(t, "count", all(&pb.RangeRequest{CountOnly: true}).Count, before+2)
		last := all(&pb.RangeRequest{SortOrder: pb.RangeRequest_DESCEND, Limit: 1})
		wantEqual(t, "last key", keysOf(last.Kvs, ""), top)
	})
}

func TestRangeRefusals(t *testing.T) {
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
			{"empty key, with an end", &pb.RangeRequest{RangeEnd: key}, codes.InvalidArgument, emptyKeyText},
			{"empty key goes before sort option", &pb.RangeRequest{SortOrder: 9}, codes.InvalidArgument, emptyKeyText},
			{"sort order", &pb.RangeRequest{Key: key, SortOrder: 3}, codes.InvalidArgument, sortOptionText},
			{"sort order, negative", &pb.RangeRequest{Key: key, SortOrder: -1}, codes.InvalidArgument, sortOptionText},
			{"sort target", &pb.RangeRequest{Key: key, SortTarget: 5}, codes.InvalidArgument, sortOptionText},
			{"future", &pb.RangeRequest{Key: key, Revision: future}, codes.OutOfRange, futureText},
			{"future, count only", &pb.RangeRequest{Key: key, Revision: future, CountOnly: true}, codes.OutOfRange, futureText},
			{"future, keys only", &pb.RangeRequest{Key: key, Revision: future, KeysOnly: true}, codes.OutOfRange, futureText},
			{"future, serializable", &pb.RangeRequest{Key: key, Revision: future, Serializable: true}, codes.OutOfRange, futureText},
			{"far future", &pb.RangeRequest{Key: key, Revision: math.MaxInt64}, codes.OutOfRange, futureText},
		} {
			t.Run(c.name, func(t *testing.T) {
				_, err := m.kv.Range(testContext(t), c.request)
				wantError(t, err, c.code, c.text)
			})
		}
	})
}

func TestRangeLimit(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.putKeys(t, p, "a", "b", "c", "d", "e")
		for _, c := range []struct {
			limit int64
			want  string
			more  bool
		}{
			{0, "a b c d e", false},
			{1, "a", true},
			{4, "a b c d", true},
			{5, "a b c d e", false},
			{6, "a b c d e", false},
			{math.MaxInt64, "a b c d e", false},
			{-1, "a b c d e", false},
			{math.MinInt64, "a b c d e", false},
		} {
			for _, keysOnly := range []bool{false, true} {
				what := fmt.Sprintf("limit %d, keys_only %v", c.limit, keysOnly)
				resp := m.rng(t, &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), Limit: c.limit, KeysOnly: keysOnly})
				wantEqual(t, what, keysOf(resp.Kvs, p), c.want)
				wantEqual(t, what+": more", resp.More, c.more)
				wantEqual(t, what+": count", resp.Count, 5)
			}
		}
	})
}

func TestRangeAtRevision(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		key := []byte(p + "k")
		before := m.revision(t)
		r1 := m.put(t, p+"k", "v1").Header.Revision
		r2 := m.put(t, p+"k", "v2").Header.Revision
		r3 := m.del(t, &pb.DeleteRangeRequest{Key: key}).Header.Revision
		r4 := m.put(t, p+"k", "v3").Header.Revision
		r5 := m.put(t, p+"other", "x").Header.Revision

		kv := func(value string, create, mod, version int64) []*mvccpb.KeyValue {
			return []*mvccpb.KeyValue{{Key: key, Value: []byte(value), CreateRevision: create, ModRevision: mod, Version: version}}
		}
		for _, c := range []struct {
			revision int64
			want     []*mvccpb.KeyValue
		}{
			{before, nil},
			{r1, kv("v1", r1, r1, 1)},
			{r2, kv("v2", r1, r2, 2)},
			{r3, nil},
			{r4, kv("v3", r4, r4, 1)},
			{r5, kv("v3", r4, r4, 1)},
			{0, kv("v3", r4, r4, 1)},
			{-1, kv("v3", r4, r4, 1)},
			{math.MinInt64, kv("v3", r4, r4, 1)},
		} {
			for _, end := range [][]byte{nil, []byte(p + "l")} {
				what := fmt.Sprintf("revision %d, end %q", c.revision-before, end)
				resp := m.rng(t, &pb.RangeRequest{Key: key, RangeEnd: end, Revision: c.revision})
				wantKVs(t, what, resp.Kvs, c.want)
				wantEqual(t, what+": count", resp.Count, int64(len(c.want)))
				wantEqual(t, what+": header revision", resp.Header.Revision, r5)
				resp = m.rng(t, &pb.RangeRequest{Key: key, RangeEnd: end, Revision: c.revision, CountOnly: true})
				wantEqual(t, what+": count_only", resp.Count, int64(len(c.want)))
			}
		}
	})
}

func TestRangeKeysOnly(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		r1 := m.put(t, p+"a", "v").Header.Revision
		r2 := m.put(t, p+"b", "w").Header.Revision
		r3 := m.put(t, p+"a", "x").Header.Revision
		a := &mvccpb.KeyValue{Key: []byte(p + "a"), CreateRevision: r1, ModRevision: r3, Version: 2}
		b := &mvccpb.KeyValue{Key: []byte(p + "b"), CreateRevision: r2, ModRevision: r2, Version: 1}

		resp := m.rng(t, &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), KeysOnly: true})
		wantKVs(t, "range", resp.Kvs, []*mvccpb.KeyValue{a, b})
		wantEqual(t, "count", resp.Count, 2)
		resp = m.rng(t, &pb.RangeRequest{Key: []byte(p + "b"), KeysOnly: true})
		wantKVs(t, "one key", resp.Kvs, []*mvccpb.KeyValue{b})
		resp = m.rng(t, &pb.RangeRequest{Key: []byte(p + "c"), KeysOnly: true})
		wantKVs(t, "missing key", resp.Kvs, nil)
		wantEqual(t, "count of a missing key", resp.Count, 0)
		// The values decide the order before they are left out.
		resp = m.rng(t, &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), KeysOnly: true,
			SortTarget: pb.RangeRequest_VALUE, SortOrder: pb.RangeRequest_DESCEND})
		wantKVs(t, "by value", resp.Kvs, []*mvccpb.KeyValue{a, b})
		resp = m.rng(t, &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), KeysOnly: true,
			SortTarget: pb.RangeRequest_MOD, SortOrder: pb.RangeRequest_ASCEND})
		wantKVs(t, "by mod revision", resp.Kvs, []*mvccpb.KeyValue{b, a})
		resp = m.rng(t, &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), KeysOnly: true, Revision: r2})
		a.ModRevision, a.Version = r1, 1
		wantKVs(t, "at a past revision", resp.Kvs, []*mvccpb.KeyValue{a, b})
	})
}

// count_only wins over limit, sort, keys_only and the revision filters.
func TestRangeCountOnly(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.putKeys(t, p, "a", "b", "c")
		rev := m.revision(t)
		for name, r := range map[string]*pb.RangeRequest{
			"plain":     {},
			"limit":     {Limit: 1},
			"keys only": {KeysOnly: true},
			"sorted":    {SortOrder: pb.RangeRequest_DESCEND, SortTarget: pb.RangeRequest_VALUE},
			"filtered":  {MinModRevision: rev, MaxCreateRevision: 1},
			"at head":   {Revision: rev},
		} {
			r.Key, r.RangeEnd, r.CountOnly = []byte(p), prefixEnd(p), true
			resp := m.rng(t, r)
			wantEqual(t, name+": count", resp.Count, 3)
			wantEqual(t, name+": keys", len(resp.Kvs), 0)
			wantEqual(t, name+": more", resp.More, false)
			wantEqual(t, name+": header revision", resp.Header.Revision, rev)
		}
		wantEqual(t, "one key", m.rng(t, &pb.RangeRequest{Key: []byte(p + "a"), CountOnly: true}).Count, 1)
		wantEqual(t, "missing key", m.rng(t, &pb.RangeRequest{Key: []byte(p + "z"), CountOnly: true}).Count, 0)
		wantEqual(t, "past", m.rng(t, &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), CountOnly: true, Revision: rev - 2}).Count, 1)
	})
}

// sortFixture writes keys whose order differs for every sort target.
func sortFixture(t *testing.T, m *member) string {
	p := newPrefix(t)
	m.put(t, p+"c", "2")
	m.put(t, p+"a", "9")
	m.put(t, p+"d", "1")
	m.put(t, p+"b", "4")
	m.put(t, p+"d", "1")
	m.put(t, p+"a", "9")
	m.put(t, p+"a", "9")
	m.put(t, p+"c", "2")
	m.put(t, p+"c", "2")
	m.put(t, p+"c", "2")
	return p
}

func TestRangeSort(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := sortFixture(t, m)
		ascending := map[pb.RangeRequest_SortTarget]string{
			pb.RangeRequest_KEY:     "a b c d",
			pb.RangeRequest_VERSION: "b d a c",
			pb.RangeRequest_CREATE:  "c a d b",
			pb.RangeRequest_MOD:     "b d a c",
			pb.RangeRequest_VALUE:   "d c b a",
		}
		descending := map[pb.RangeRequest_SortTarget]string{
			pb.RangeRequest_KEY:     "d c b a",
			pb.RangeRequest_VERSION: "c a d b",
			pb.RangeRequest_CREATE:  "b d a c",
			pb.RangeRequest_MOD:     "c a d b",
			pb.RangeRequest_VALUE:   "a b c d",
		}
		for target := range ascending {
			for order, wants := range map[pb.RangeRequest_SortOrder]map[pb.RangeRequest_SortTarget]string{
				// A target without an order sorts ascending.
				pb.RangeRequest_NONE:    ascending,
				pb.RangeRequest_ASCEND:  ascending,
				pb.RangeRequest_DESCEND: descending,
			} {
				resp := m.rng(t, &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), SortOrder: order, SortTarget: target})
				wantEqual(t, fmt.Sprintf("%v %v", target, order), keysOf(resp.Kvs, p), wants[target])
			}
		}
	})
}

// With an order, the limit cuts the sorted result.
func TestRangeSortThenLimit(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := sortFixture(t, m)
		for _, c := range []struct {
			order  pb.RangeRequest_SortOrder
			target pb.RangeRequest_SortTarget
			limit  int64
			want   string
			more   bool
		}{
			{pb.RangeRequest_DESCEND, pb.RangeRequest_KEY, 2, "d c", true},
			{pb.RangeRequest_ASCEND, pb.RangeRequest_KEY, 3, "a b c", true},
			{pb.RangeRequest_ASCEND, pb.RangeRequest_CREATE, 1, "c", true},
			{pb.RangeRequest_DESCEND, pb.RangeRequest_MOD, 3, "c a d", true},
			{pb.RangeRequest_DESCEND, pb.RangeRequest_VALUE, 4, "a b c d", false},
			{pb.RangeRequest_ASCEND, pb.RangeRequest_VERSION, 9, "b d a c", false},
		} {
			what := fmt.Sprintf("%v %v limit %d", c.target, c.order, c.limit)
			resp := m.rng(t, &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), Limit: c.limit, SortOrder: c.order, SortTarget: c.target})
			wantEqual(t, what, keysOf(resp.Kvs, p), c.want)
			wantEqual(t, what+": more", resp.More, c.more)
			wantEqual(t, what+": count", resp.Count, 4)
		}
	})
}

// Without an order etcd fetches one key more than the limit, in key order, then
// sorts those by the target and cuts: not the first of the whole range.
func TestRangeLimitThenSortWithoutOrder(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := sortFixture(t, m)
		for _, c := range []struct {
			target pb.RangeRequest_SortTarget
			limit  int64
			want   string
		}{
			{pb.RangeRequest_MOD, 1, "b"},
			{pb.RangeRequest_VALUE, 2, "c b"},
			{pb.RangeRequest_CREATE, 1, "a"},
			{pb.RangeRequest_CREATE, 2, "c a"},
			{pb.RangeRequest_VERSION, 2, "b a"},
		} {
			what := fmt.Sprintf("%v limit %d", c.target, c.limit)
			resp := m.rng(t, &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), Limit: c.limit, SortTarget: c.target})
			wantEqual(t, what, keysOf(resp.Kvs, p), c.want)
			wantEqual(t, what+": more", resp.More, true)
			wantEqual(t, what+": count", resp.Count, 4)
		}
	})
}

func TestRangeRevisionFilters(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		base := m.revision(t)
		// create: a 1, b 2, c 3, d 4; mod: a 6, b 2, c 5, d 4, relative to base.
		m.putKeys(t, p, "a", "b", "c", "d", "c", "a")
		for _, c := range []struct {
			name    string
			request *pb.RangeRequest
			want    string
			more    bool
		}{
			{"min mod is inclusive", &pb.RangeRequest{MinModRevision: base + 5}, "a c", false},
			{"max mod is inclusive", &pb.RangeRequest{MaxModRevision: base + 4}, "b d", false},
			{"min create is inclusive", &pb.RangeRequest{MinCreateRevision: base + 3}, "c d", false},
			{"max create is inclusive", &pb.RangeRequest{MaxCreateRevision: base + 2}, "a b", false},
			{"mod window", &pb.RangeRequest{MinModRevision: base + 4, MaxModRevision: base + 5}, "c d", false},
			{"create and mod", &pb.RangeRequest{MaxCreateRevision: base + 3, MinModRevision: base + 5}, "a c", false},
			{"empty window", &pb.RangeRequest{MinModRevision: base + 3, MaxModRevision: base + 3}, "", false},
			{"beyond head", &pb.RangeRequest{MinModRevision: base + 1000}, "", false},
			{"negative minimum", &pb.RangeRequest{MinModRevision: -1}, "a b c d", false},
			{"negative maximum", &pb.RangeRequest{MaxModRevision: -1}, "", false},
			{"limit counts what passed", &pb.RangeRequest{MinModRevision: base + 4, Limit: 2}, "a c", true},
			{"limit reached exactly", &pb.RangeRequest{MinModRevision: base + 4, Limit: 3}, "a c d", false},
			{"sorted", &pb.RangeRequest{MinModRevision: base + 4, SortTarget: pb.RangeRequest_MOD, SortOrder: pb.RangeRequest_ASCEND}, "d c a", false},
			{"sorted and limited", &pb.RangeRequest{MinModRevision: base + 4, Limit: 1, SortTarget: pb.RangeRequest_MOD, SortOrder: pb.RangeRequest_DESCEND}, "a", true},
			{"keys only", &pb.RangeRequest{MinModRevision: base + 5, KeysOnly: true}, "a c", false},
			{"at a past revision", &pb.RangeRequest{Revision: base + 4, MinModRevision: base + 3}, "c d", false},
		} {
			t.Run(c.name, func(t *testing.T) {
				r := c.request
				r.Key, r.RangeEnd = []byte(p), prefixEnd(p)
				resp := m.rng(t, r)
				wantEqual(t, "keys", keysOf(resp.Kvs, p), c.want)
				wantEqual(t, "more", resp.More, c.more)
				// The filters do not change the count.
				wantEqual(t, "count", resp.Count, 4)
			})
		}
	})
}

// A serializable read is answered by the member alone, so it may be old, but
// never older than a linearizable read which that member answered before.
func TestRangeSerializable(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		rev := m.put(t, p+"k", "v").Header.Revision
		for _, reader := range members {
			linearizable := reader.rng(t, &pb.RangeRequest{Key: []byte(p + "k")})
			serializable := reader.rng(t, &pb.RangeRequest{Key: []byte(p + "k"), Serializable: true})
			wantProto(t, "serializable reply", serializable, linearizable)
			wantEqual(t, "header revision", serializable.Header.Revision, rev)
		}
	})
}

// A reply may be far larger than a request.
func TestRangeLargeReply(t *testing.T) {
	p := newPrefix(t)
	value := make([]byte, 1<<20)
	for i := range value {
		value[i] = byte(i)
	}
	for i := range 12 {
		members[0].doPut(t, &pb.PutRequest{Key: fmt.Appendf(nil, "%s%02d", p, i), Value: value})
	}
	for _, m := range members {
		kvs := m.list(t, p)
		wantEqual(t, "keys", len(kvs), 12)
		for _, kv := range kvs {
			if string(kv.Value) != string(value) {
				t.Errorf("value of %q differs", kv.Key)
			}
		}
	}
	members[0].del(t, &pb.DeleteRangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p)})
}
