package conformance

import (
	"context"
	"fmt"
	"math"
	"math/rand"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

const (
	// allWatches is the watch id of what concerns no watch, or every one.
	allWatches = -1
	// fragmentBytes bounds a response of a watch with `fragment`: etcd's default
	// request limit and what gRPC adds to it.
	fragmentBytes = 3<<19 + 512<<10
)

// watchStream is one Watch call of a raw client.
type watchStream struct {
	t      *testing.T
	stream pb.Watch_WatchClient
}

// watch opens a stream on a member that has seen every write before it.
func (m *member) watch(t *testing.T, header ...string) *watchStream {
	t.Helper()
	m.revision(t)
	ctx := metadata.AppendToOutgoingContext(testContext(t), header...)
	stream, err := pb.NewWatchClient(m.conn).Watch(ctx)
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	return &watchStream{t, stream}
}

func (w *watchStream) send(r *pb.WatchRequest) {
	w.t.Helper()
	if err := w.stream.Send(r); err != nil {
		w.t.Fatalf("send %v: %v", r, err)
	}
}

func (w *watchStream) sendCreate(r *pb.WatchCreateRequest) {
	w.t.Helper()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
}

func (w *watchStream) sendCancel(id int64) {
	w.t.Helper()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
}

func (w *watchStream) sendProgress() {
	w.t.Helper()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}

func (w *watchStream) recv() *pb.WatchResponse {
	w.t.Helper()
	resp, err := w.stream.Recv()
	if err != nil {
		w.t.Fatalf("receive: %v", err)
	}
	return resp
}

// create makes a watch that must be accepted and returns its id. No other watch
// of the stream may have anything to tell.
func (w *watchStream) create(r *pb.WatchCreateRequest) int64 {
	w.t.Helper()
	w.sendCreate(r)
	resp := w.recv()
	if !resp.Created || resp.Canceled || resp.CancelReason != "" || resp.CompactRevision != 0 || len(resp.Events) != 0 {
		w.t.Fatalf("created: %v", resp)
	}
	if r.WatchId != 0 {
		wantEqual(w.t, "watch id", resp.WatchId, r.WatchId)
	}
	return resp.WatchId
}

// refused makes a watch that must not be accepted.
func (w *watchStream) refused(r *pb.WatchCreateRequest, reason string) {
	w.t.Helper()
	w.sendCreate(r)
	resp := w.recv()
	want := &pb.WatchResponse{Header: resp.Header, WatchId: allWatches, Created: true, Canceled: true, CancelReason: reason}
	wantProto(w.t, "refusal", resp, want)
	if resp.Header.GetRevision() == 0 {
		w.t.Errorf("no revision in %v", resp)
	}
}

// canceled ends a watch that has nothing to tell.
func (w *watchStream) canceled(id int64) {
	w.t.Helper()
	w.sendCancel(id)
	resp := w.recv()
	wantProto(w.t, "canceled", resp, &pb.WatchResponse{Header: resp.Header, WatchId: id, Canceled: true})
}

// progress requests a report and returns its revision. All watches of the stream
// must have been told everything.
func (w *watchStream) progress() int64 {
	w.t.Helper()
	w.sendProgress()
	resp := w.recv()
	wantProto(w.t, "progress", resp, &pb.WatchResponse{Header: resp.Header, WatchId: allWatches})
	return resp.Header.GetRevision()
}

// events receives n events of one watch, the only one with something to tell,
// and checks that no revision is split and none comes twice.
func (w *watchStream) events(id int64, n int) []*mvccpb.Event {
	w.t.Helper()
	var events []*mvccpb.Event
	var last int64
	for len(events) < n {
		resp := w.recv()
		if resp.WatchId != id || resp.Created || resp.Canceled || resp.Fragment || len(resp.Events) == 0 {
			w.t.Fatalf("after %d events of %d: %v", len(events), n, resp)
		}
		previous := last
		for _, event := range resp.Events {
			if event.Kv.ModRevision <= previous || event.Kv.ModRevision < last {
				w.t.Fatalf("revision %d after %d in another response, %d in this one", event.Kv.ModRevision, previous, last)
			}
			last = event.Kv.ModRevision
		}
		if resp.Header.GetRevision() < last {
			w.t.Errorf("header revision %d of events up to %d", resp.Header.GetRevision(), last)
		}
		events = append(events, resp.Events...)
	}
	if len(events) > n {
		w.t.Fatalf("%d events, want %d: %s", len(events), n, eventsText(events, ""))
	}
	return events
}

// eventsText writes events as `PUT key@mod` without the test's prefix.
func eventsText(events []*mvccpb.Event, prefix string) string {
	var texts []string
	for _, event := range events {
		key := strings.TrimPrefix(string(event.Kv.Key), prefix)
		texts = append(texts, fmt.Sprintf("%v %s=%s", event.Type, key, event.Kv.Value))
	}
	return strings.Join(texts, ", ")
}

func prefixWatch(prefix string) *pb.WatchCreateRequest {
	return &pb.WatchCreateRequest{Key: []byte(prefix), RangeEnd: prefixEnd(prefix)}
}

func TestWatchIDs(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		w := m.watch(t)
		on := func(key string, id int64) *pb.WatchCreateRequest {
			return &pb.WatchCreateRequest{Key: []byte(p + key), WatchId: id}
		}
		const duplicate = "mvcc: duplicate watch ID provided on the WatchStream"
		w.create(on("seven", 7))
		w.create(on("two", 2))
		for _, want := range []int64{0, 1, 3} {
			wantEqual(t, "id of the server", w.create(on(fmt.Sprint("auto", want), 0)), want)
		}
		w.create(on("negative", -3))
		w.create(on("greatest", math.MaxInt64))
		w.refused(on("seven", 7), duplicate)
		w.refused(on("three", 3), duplicate)
		for key, id := range map[string]int64{"seven": 7, "two": 2, "auto0": 0, "auto1": 1, "auto3": 3, "negative": -3, "greatest": math.MaxInt64} {
			m.put(t, p+key, "v")
			wantEqual(t, "events", eventsText(w.events(id, 1), p), "PUT "+key+"=v")
		}
		w.canceled(7)
		w.create(on("new", 7))
		m.put(t, p+"seven", "v")
		m.put(t, p+"new", "v")
		wantEqual(t, "events", eventsText(w.events(7, 1), p), "PUT new=v")
	})
}

func TestWatchRanges(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newTopPrefix()
		for _, c := range []struct {
			name, key, end, want string
		}{
			{"key", p + "b", "", "PUT b=1, DELETE b="},
			{"range", p + "b", p + "d", "PUT b=1, PUT c=1, PUT bb=1, DELETE b=, DELETE bb=, DELETE c="},
			{"prefix", p + "b", string(prefixEnd(p + "b")), "PUT b=1, PUT bb=1, DELETE b=, DELETE bb="},
			{"from key", p + "c", "\x00", "PUT c=1, PUT d=1, DELETE c=, DELETE d="},
			{"all", "\x00", "\x00", "PUT a=1, PUT b=1, PUT c=1, PUT d=1, PUT bb=1, DELETE a=, DELETE b=, DELETE bb=, DELETE c=, DELETE d="},
			{"empty key", "", "\x00", "PUT a=1, PUT b=1, PUT c=1, PUT d=1, PUT bb=1, DELETE a=, DELETE b=, DELETE bb=, DELETE c=, DELETE d="},
			{"one key by its end", p + "b", p + "b\x00", "PUT b=1, DELETE b="},
		} {
			t.Run(c.name, func(t *testing.T) {
				w := m.watch(t)
				id := w.create(&pb.WatchCreateRequest{Key: []byte(c.key), RangeEnd: []byte(c.end)})
				for _, key := range []string{"a", "b", "c", "d", "bb"} {
					m.put(t, p+key, "1")
				}
				m.del(t, &pb.DeleteRangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p)})
				want := strings.Count(c.want, ",") + 1
				wantEqual(t, "events", eventsText(w.events(id, want), p), c.want)
				if progress, now := w.progress(), m.revision(t); progress != now {
					t.Errorf("progress %d, revision %d", progress, now)
				}
			})
		}
	})
}

// An empty key without an end is the smallest key there can be.
func TestWatchEmptyKey(t *testing.T) {
	m := members[0]
	w := m.watch(t)
	id := w.create(&pb.WatchCreateRequest{})
	m.put(t, "\x00\x00", "other")
	m.put(t, "\x00", "v")
	wantEqual(t, "events", eventsText(w.events(id, 1), ""), "PUT \x00=v")
	m.del(t, &pb.DeleteRangeRequest{Key: []byte("\x00"), RangeEnd: []byte("\x01")})
}

func TestWatchRefusals(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		w := m.watch(t)
		const empty = "mvcc: watcher range is empty"
		w.refused(&pb.WatchCreateRequest{Key: []byte(p + "b"), RangeEnd: []byte(p + "b")}, empty)
		w.refused(&pb.WatchCreateRequest{Key: []byte(p + "b"), RangeEnd: []byte(p + "a"), WatchId: 5}, empty)
		w.refused(&pb.WatchCreateRequest{RangeEnd: []byte("\x00"), StartRevision: -1}, compactedText)
		w.refused(&pb.WatchCreateRequest{Key: []byte(p), StartRevision: math.MinInt64}, compactedText)
		// A refusal takes no id, and the stream goes on.
		wantEqual(t, "watch id", w.create(prefixWatch(p)), 0)
		w.create(&pb.WatchCreateRequest{Key: []byte(p + "b"), WatchId: 5, StartRevision: math.MaxInt64})
		// What is no request is no reason to stop.
		w.send(&pb.WatchRequest{})
		m.put(t, p, "v")
		w.events(0, 1)
	})
}

func TestWatchStartRevisions(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		base := m.revision(t)
		for i := range 4 {
			m.put(t, p+"k", fmt.Sprint(i))
		}
		for _, c := range []struct {
			name  string
			start int64
			want  string
		}{
			{"before all", base, "PUT k=0, PUT k=1, PUT k=2, PUT k=3, PUT k=4, PUT k=5, PUT k=6"},
			{"first", base + 1, "PUT k=0, PUT k=1, PUT k=2, PUT k=3, PUT k=4, PUT k=5, PUT k=6"},
			{"third", base + 3, "PUT k=2, PUT k=3, PUT k=4, PUT k=5, PUT k=6"},
			{"newest", base + 4, "PUT k=3, PUT k=4, PUT k=5, PUT k=6"},
			{"next", base + 5, "PUT k=4, PUT k=5, PUT k=6"},
			{"now", 0, "PUT k=4, PUT k=5, PUT k=6"},
			{"future", base + 6, "PUT k=5, PUT k=6"},
			{"later", base + 7, "PUT k=6"},
		} {
			w := m.watch(t)
			request := prefixWatch(p)
			request.StartRevision = c.start
			id := w.create(request)
			// The same revisions again for the next case.
			defer func() {
				events := w.events(id, strings.Count(c.want, ",")+1)
				wantEqual(t, c.name, eventsText(events, p), c.want)
				wantEqual(t, c.name+": progress", w.progress(), base+7)
			}()
		}
		for i := range 3 {
			m.put(t, p+"k", fmt.Sprint(i+4))
		}
	})
}

func TestWatchCompacted(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		live := m.watch(t)
		liveID := live.create(prefixWatch(p))
		m.put(t, p+"a", "1")
		m.put(t, p+"b", "1")
		floor := m.del(t, &pb.DeleteRangeRequest{Key: []byte(p + "b")}).Header.Revision
		m.put(t, p+"a", "2")
		wantEqual(t, "live", len(live.events(liveID, 4)), 4)
		m.compact(t, floor, true)

		w := m.watch(t)
		for _, start := range []int64{1, floor - 1} {
			request := prefixWatch(p)
			request.StartRevision, request.WatchId = start, 9
			w.sendCreate(request)
			created := w.recv()
			wantProto(t, "created", created, &pb.WatchResponse{Header: created.Header, WatchId: 9, Created: true})
			canceled := w.recv()
			wantProto(t, "canceled", canceled, &pb.WatchResponse{Header: canceled.Header, WatchId: 9, Canceled: true, CompactRevision: floor})
			// A new stream, since etcd answers no request for progress any more on
			// one that holds a watch of this kind.
			w = m.watch(t)
		}
		// The floor itself can be watched from, a deletion at it included.
		request := prefixWatch(p)
		request.StartRevision, request.PrevKv = floor, true
		id := w.create(request)
		events := w.events(id, 2)
		wantEqual(t, "from the floor", eventsText(events, p), "DELETE b=, PUT a=2")
		// What was before the floor is gone.
		wantEqual(t, "prev_kv at the floor", events[0].PrevKv == nil, true)
		wantEqual(t, "prev_kv after it", string(events[1].PrevKv.GetValue()), "1")
		// A live watch does not care.
		m.put(t, p+"a", "3")
		wantEqual(t, "live", eventsText(live.events(liveID, 1), p), "PUT a=3")
	})
}

func TestWatchPrevKv(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		base := m.revision(t)
		live := m.watch(t)
		request := prefixWatch(p)
		request.PrevKv = true
		liveID := live.create(request)
		m.put(t, p, "1")
		m.put(t, p, "2")
		m.del(t, &pb.DeleteRangeRequest{Key: []byte(p)})
		m.put(t, p, "3")
		rev := m.put(t, p, "4").Header.Revision
		kv := func(value string, create, mod, version int64) *mvccpb.KeyValue {
			return &mvccpb.KeyValue{Key: []byte(p), Value: []byte(value), CreateRevision: create, ModRevision: mod, Version: version}
		}
		wantEqual(t, "revision", rev, base+5)
		want := []*mvccpb.Event{
			{Kv: kv("1", base+1, base+1, 1)},
			{Kv: kv("2", base+1, base+2, 2), PrevKv: kv("1", base+1, base+1, 1)},
			{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(p), ModRevision: base + 3}, PrevKv: kv("2", base+1, base+2, 2)},
			{Kv: kv("3", base+4, base+4, 1)},
			{Kv: kv("4", base+4, base+5, 2), PrevKv: kv("3", base+4, base+4, 1)},
		}
		check := func(what string, events []*mvccpb.Event) {
			t.Helper()
			for i, event := range events {
				wantProto(t, fmt.Sprintf("%s, event %d", what, i), event, want[i])
			}
		}
		check("live", live.events(liveID, len(want)))
		request.StartRevision = base + 1
		past := m.watch(t)
		check("past", past.events(past.create(request), len(want)))
		// One that did not ask for it, when the others are gone.
		for _, w := range []*watchStream{live, past} {
			w.canceled(0)
		}
		request.PrevKv = false
		for _, event := range want {
			event.PrevKv = nil
		}
		check("without", past.events(past.create(request), len(want)))
	})
}

func TestWatchFilters(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		w := m.watch(t)
		const (
			noPut    = pb.WatchCreateRequest_NOPUT
			noDelete = pb.WatchCreateRequest_NODELETE
		)
		want := map[int64]string{}
		for i, c := range []struct {
			filters []pb.WatchCreateRequest_FilterType
			want    string
		}{
			{nil, "PUT a=1, DELETE a=, PUT b=1, PUT a=2"},
			{[]pb.WatchCreateRequest_FilterType{noPut}, "DELETE a="},
			{[]pb.WatchCreateRequest_FilterType{noDelete, noDelete}, "PUT a=1, PUT b=1, PUT a=2"},
			{[]pb.WatchCreateRequest_FilterType{noPut, noDelete}, ""},
			{[]pb.WatchCreateRequest_FilterType{9}, "PUT a=1, DELETE a=, PUT b=1, PUT a=2"},
		} {
			request := prefixWatch(p)
			request.Filters, request.WatchId = c.filters, int64(i+1)
			want[w.create(request)] = c.want
		}
		m.put(t, p+"a", "1")
		m.txn(t, &pb.TxnRequest{Success: ops(opDel(p+"a", nil), opPut(p+"b", "1"))})
		m.put(t, p+"a", "2")
		got := map[int64][]*mvccpb.Event{}
		w.sendProgress()
		for {
			resp := w.recv()
			if resp.WatchId == allWatches {
				break
			}
			got[resp.WatchId] = append(got[resp.WatchId], resp.Events...)
		}
		for id, want := range want {
			wantEqual(t, fmt.Sprintf("watch %d", id), eventsText(got[id], p), want)
		}
	})
}

// Events of one transaction come in one response, in the order of operations,
// whether the watch is live or reads the past.
func TestWatchTransactions(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newTopPrefix()
		base := m.revision(t)
		live := m.watch(t)
		request := prefixWatch(p)
		request.PrevKv = true
		liveID := live.create(request)
		m.txn(t, &pb.TxnRequest{Success: ops(opPut(p+"c", "1"), opPut(p+"a", "1"), opPut(p+"b", "1"))})
		// A deletion of an open range and a put of one of its keys.
		open := opDel(p+"b", []byte{0})
		rev := m.txn(t, &pb.TxnRequest{Success: ops(open, opPut(p+"b", "2"))}).Header.Revision
		// Reads and nothing that changes make no event.
		m.txn(t, &pb.TxnRequest{Success: ops(opDel(p+"x", nil))})
		nested := opTxn(&pb.TxnRequest{Success: ops(opPut(p+"e", "1"))})
		m.txn(t, &pb.TxnRequest{Success: ops(opPut(p+"d", "1"), nested, opPut(p+"f", "1"))})
		wantEqual(t, "revision", rev, base+2)
		want := []string{"PUT c=1, PUT a=1, PUT b=1", "DELETE b=, DELETE c=, PUT b=2", "PUT d=1, PUT e=1, PUT f=1"}
		check := func(what string, events []*mvccpb.Event) {
			t.Helper()
			wantEqual(t, what, eventsText(events, p), strings.Join(want, ", "))
			for i, event := range events {
				wantEqual(t, what+": mod revision", event.Kv.ModRevision, base+1+int64(i/3))
			}
			wantEqual(t, what+": version", events[5].Kv.Version, 1)
			wantEqual(t, what+": create revision", events[5].Kv.CreateRevision, rev)
			wantEqual(t, what+": prev_kv of the deletion", string(events[3].PrevKv.GetValue()), "1")
			wantEqual(t, what+": no prev_kv of the new key", events[5].PrevKv == nil, true)
		}
		check("live", live.events(liveID, 9))
		request.StartRevision = base + 1
		past := m.watch(t)
		check("past", past.events(past.create(request), 9))
	})
}

func TestWatchCancel(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		w := m.watch(t)
		first, second := w.create(prefixWatch(p)), w.create(prefixWatch(p))
		m.put(t, p, "1")
		ids := []int64{w.recv().WatchId, w.recv().WatchId}
		slices.Sort(ids)
		wantEqual(t, "told", fmt.Sprint(ids), fmt.Sprint([]int64{first, second}))
		w.canceled(first)
		// Nothing answers the end of a watch that there is not.
		w.sendCancel(first)
		w.sendCancel(77)
		w.sendCancel(allWatches)
		m.put(t, p, "2")
		wantEqual(t, "the other one", eventsText(w.events(second, 1), p), "PUT =2")
		w.canceled(second)
		// Ids are not given again.
		wantEqual(t, "watch id", w.create(prefixWatch(p)), second+1)
	})
}

func TestWatchProgressRequests(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		w := m.watch(t)
		// Nobody to report of: the next response is that of the creation.
		w.sendProgress()
		id := w.create(prefixWatch(p))
		wantEqual(t, "progress", w.progress(), m.revision(t))
		rev := m.put(t, p, "1").Header.Revision
		w.events(id, 1)
		wantEqual(t, "progress", w.progress(), rev)
		// Not a key of the watch.
		rev = m.put(t, newPrefix(t), "1").Header.Revision
		m.revision(t)
		wantEqual(t, "progress", w.progress(), rev)
		// A watch of the future holds reports back.
		w.create(&pb.WatchCreateRequest{Key: []byte(p), StartRevision: rev + 2, WatchId: 5})
		w.sendProgress()
		w.canceled(5)
		wantEqual(t, "progress", w.progress(), rev)
		w.create(&pb.WatchCreateRequest{Key: []byte(p + "x"), StartRevision: rev + 2, WatchId: 5})
		m.put(t, p+"x1", "")
		m.put(t, p+"x1", "")
		w.events(id, 2)
		wantEqual(t, "progress", w.progress(), rev+2)
	})
}

// A report is never ahead of an event.
func TestWatchProgressInOrder(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		const writes = 300
		p := newPrefix(t)
		w := m.watch(t)
		id := w.create(prefixWatch(p))
		failed := make(chan error, 1)
		go func() {
			for i := range writes {
				writer := members[i%len(members)]
				_, err := writer.kv.Put(w.stream.Context(), &pb.PutRequest{Key: []byte(fmt.Sprint(p, i))})
				if err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
		events, reports := 0, 0
		var told, reported int64
		for events < writes {
			w.sendProgress()
			resp := w.recv()
			switch resp.WatchId {
			case allWatches:
				reports++
				if resp.Header.Revision < told || resp.Header.Revision < reported {
					t.Fatalf("report of %d after %d and events up to %d", resp.Header.Revision, reported, told)
				}
				reported = resp.Header.Revision
			case id:
				for _, event := range resp.Events {
					if event.Kv.ModRevision <= max(told, reported) {
						t.Fatalf("event of %d after a report of %d, an event of %d", event.Kv.ModRevision, reported, told)
					}
					told = event.Kv.ModRevision
					events++
				}
			}
		}
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
		if reports == 0 {
			t.Error("no report")
		}
	})
}

// With --watch-progress-notify-interval=100ms.
func TestWatchProgressNotify(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		w := m.watch(t)
		w.create(prefixWatch(p))
		request := prefixWatch(p)
		request.ProgressNotify = true
		notified := w.create(request)
		for range 3 {
			resp := w.recv()
			wantProto(t, "report", resp, &pb.WatchResponse{Header: resp.Header, WatchId: notified})
			wantEqual(t, "revision", resp.Header.Revision, m.revision(t))
		}
		rev := m.put(t, p, "v").Header.Revision
		told := 0
		for told < 3 {
			resp := w.recv()
			told += len(resp.Events)
			if len(resp.Events) == 0 {
				wantEqual(t, "watch id", resp.WatchId, notified)
				if resp.Header.Revision >= rev {
					told = 3
				}
			} else {
				wantEqual(t, "events", eventsText(resp.Events, p), "PUT =v")
			}
		}
	})
}

func TestWatchFragments(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		base := m.revision(t)
		whole, pieces := m.watch(t), m.watch(t)
		request := prefixWatch(p)
		request.PrevKv = true
		wholeID := whole.create(request)
		request.Fragment = true
		piecesID := pieces.create(request)
		for round := range 2 {
			var puts []*pb.RequestOp
			for i := range 3 {
				puts = append(puts, opPut(fmt.Sprint(p, i), strings.Repeat(fmt.Sprint(round), 450<<10)))
			}
			m.txn(t, &pb.TxnRequest{Success: puts})
		}
		want := whole.events(wholeID, 6)
		for i, event := range want {
			wantEqual(t, "previous", event.PrevKv != nil, i >= 3)
		}
		assembled := func(w *watchStream) int {
			t.Helper()
			var events []*mvccpb.Event
			parts := 0
			for {
				resp := w.recv()
				parts++
				if size := proto.Size(resp); size >= fragmentBytes && len(resp.Events) > 1 {
					t.Errorf("%d bytes in one response", size)
				}
				wantEqual(t, "watch id", resp.WatchId, piecesID)
				events = append(events, resp.Events...)
				last := events[len(events)-1].Kv.ModRevision == base+2 && len(events) == len(want)
				if !resp.Fragment && last {
					break
				}
				if len(events) >= len(want) {
					t.Fatalf("%d events, fragment is %v", len(events), resp.Fragment)
				}
			}
			for i, event := range events {
				wantEqual(t, fmt.Sprintf("event %d", i), proto.Equal(event, want[i]), true)
			}
			return parts
		}
		// The second transaction takes two responses.
		wantEqual(t, "responses", assembled(pieces), 3)
		// The past may come in one, which takes two or three.
		request.StartRevision = base + 1
		past := m.watch(t)
		wantEqual(t, "watch id", past.create(request), piecesID)
		if parts := assembled(past); parts < 2 {
			t.Errorf("%d responses", parts)
		}
	})
}

// A client that has said all it has to say goes on being told.
func TestWatchHalfClosed(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		w := m.watch(t, "hasleader", "true")
		id := w.create(prefixWatch(p))
		if err := w.stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			m.put(t, p, fmt.Sprint(i))
			wantEqual(t, "events", eventsText(w.events(id, 1), p), fmt.Sprintf("PUT =%d", i))
		}
	})
}

// Many watches of one stream that begin at different revisions of a long past
// and go on into the present.
func TestWatchLongPast(t *testing.T) {
	const revisions, watches = 2500, 20
	p := newPrefix(t)
	base := members[0].revision(t)
	writeMany(t, p, revisions)
	onEachMember(t, func(t *testing.T, m *member) {
		w := m.watch(t)
		next, left := map[int64]int64{}, watches
		end := m.revision(t) + 10
		for i := range int64(watches) {
			request := prefixWatch(p)
			request.StartRevision = base + 1 + i*revisions/watches
			request.WatchId = i + 1
			next[i+1] = request.StartRevision
			w.sendCreate(request)
		}
		for range 10 {
			m.put(t, p, "live")
		}
		for left > 0 {
			resp := w.recv()
			for _, event := range resp.Events {
				if want := next[resp.WatchId]; event.Kv.ModRevision != want {
					t.Fatalf("watch %d: revision %d, want %d", resp.WatchId, event.Kv.ModRevision, want)
				}
				next[resp.WatchId]++
			}
			if len(resp.Events) > 0 && next[resp.WatchId] == end+1 {
				left--
			}
		}
	})
}

// writeMany makes revisions one after the other, through all members, some at a
// time; nobody else writes.
func writeMany(t *testing.T, prefix string, revisions int) {
	t.Helper()
	const writers = 16
	failures := make(chan error, writers)
	for writer := range writers {
		go func() {
			for i := writer; i < revisions; i += writers {
				m := members[i%len(members)]
				if _, err := m.kv.Put(t.Context(), &pb.PutRequest{Key: []byte(fmt.Sprint(prefix, i))}); err != nil {
					failures <- err
					return
				}
			}
			failures <- nil
		}()
	}
	for range writers {
		if err := <-failures; err != nil {
			t.Fatal(err)
		}
	}
}

// Watches of all members are told the same, and it leads to what is stored.
func TestWatchIsEqualOnAllMembers(t *testing.T) {
	const changes = 400
	p := newPrefix(t)
	rng := rand.New(rand.NewSource(seed()))
	base := members[0].revision(t)
	request := prefixWatch(p)
	request.PrevKv, request.StartRevision = true, base+1
	var streams []*watchStream
	for _, m := range members {
		w := m.watch(t)
		w.create(request)
		streams = append(streams, w)
	}
	for range changes {
		m := members[rng.Intn(len(members))]
		key := func() string { return fmt.Sprintf("%s%02d", p, rng.Intn(20)) }
		switch rng.Intn(4) {
		case 0:
			from, to := key(), key()
			m.del(t, &pb.DeleteRangeRequest{Key: []byte(min(from, to)), RangeEnd: []byte(max(from, to) + "\x00")})
		case 1:
			m.txn(t, &pb.TxnRequest{Success: ops(opPut(p+"a", "1"), opPut(key(), "2"), opDel(p+"b", nil), opPut(p+"c", "3"))})
		default:
			m.put(t, key(), fmt.Sprint(rng.Intn(1000)))
		}
	}
	last := members[0].put(t, p+"end", "").Header.Revision
	var first []*mvccpb.Event
	for i, w := range streams {
		var events []*mvccpb.Event
		for len(events) == 0 || events[len(events)-1].Kv.ModRevision < last {
			events = append(events, w.recv().Events...)
		}
		if first == nil {
			first = events
		}
		wantEqual(t, "events", len(events), len(first))
		for j, event := range events {
			wantProto(t, fmt.Sprintf("member %d, event %d", i, j), event, first[j])
		}
	}
	state := map[string]*mvccpb.KeyValue{}
	for i, event := range first {
		key := string(event.Kv.Key)
		created := event.Type == mvccpb.Event_PUT && event.Kv.CreateRevision == event.Kv.ModRevision
		if created != (event.PrevKv == nil) {
			t.Fatalf("event %d: %v", i, event)
		}
		wantProto(t, fmt.Sprintf("event %d, prev_kv", i), event.PrevKv, state[key])
		if event.Type == mvccpb.Event_PUT {
			state[key] = event.Kv
		} else {
			delete(state, key)
		}
	}
	stored := members[0].list(t, p)
	wantEqual(t, "keys", len(state), len(stored))
	for _, kv := range stored {
		wantProto(t, string(kv.Key), state[string(kv.Key)], kv)
	}
}

// A stream ends when its client goes away, and the member does not mind.
func TestWatchAbandoned(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		for range 20 {
			ctx, cancel := context.WithCancel(testContext(t))
			stream, err := pb.NewWatchClient(m.conn).Watch(ctx)
			if err != nil {
				t.Fatal(err)
			}
			w := &watchStream{t, stream}
			w.create(prefixWatch(p))
			cancel()
		}
		w := m.watch(t)
		id := w.create(prefixWatch(p))
		m.put(t, p, "v")
		w.events(id, 1)
	})
}
