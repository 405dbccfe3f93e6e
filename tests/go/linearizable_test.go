package conformance

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A read through any member that begins after a write through any other has been
// acknowledged shows that write.
func TestReadAfterWriteThroughAnotherMember(t *testing.T) {
	p := newPrefix(t)
	end := prefixEnd(p)
	for i := range 30 {
		for j, writer := range members {
			value := fmt.Sprintf("%d-%d", i, j)
			rev := writer.put(t, p, value).Header.Revision
			for k, reader := range members {
				what := fmt.Sprintf("round %d, written through %d, read through %d", i, j, k)
				resp := reader.rng(t, &pb.RangeRequest{Key: []byte(p)})
				if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != value || resp.Header.Revision != rev {
					t.Errorf("%s: %v, want %q at %d", what, resp, value, rev)
				}
				chunks, err := reader.stream(t, &pb.RangeRequest{Key: []byte(p), RangeEnd: end})
				if err != nil || len(chunks) != 1 || chunks[0].Header.Revision != rev {
					t.Errorf("%s: stream %v, %v", what, chunks, err)
				}
			}
			writer.del(t, &pb.DeleteRangeRequest{Key: []byte(p)})
			for k, reader := range members {
				if kv := reader.get(t, p); kv != nil {
					t.Errorf("round %d, deleted through %d, read through %d: %v", i, j, k, kv)
				}
			}
		}
	}
}

// Each put makes the next revision, whichever member takes it, and no member
// answers a later read with an earlier one.
func TestRevisionsAreMonotone(t *testing.T) {
	p := newPrefix(t)
	last := members[0].revision(t)
	for i := range 100 {
		rev := members[i%len(members)].put(t, p+strconv.Itoa(i%7), "").Header.Revision
		wantEqual(t, "revision of a put", rev, last+1)
		last = rev
		wantEqual(t, "revision of a read", members[(i+1)%len(members)].revision(t), last)
	}
}

// Concurrent increments by compare and swap, through all members, lose nothing.
func TestConcurrentIncrements(t *testing.T) {
	const workers, increments = 9, 20
	key := newPrefix(t)
	members[0].put(t, key, "0")
	var group sync.WaitGroup
	failures := make(chan error, workers)
	for w := range workers {
		m := members[w%len(members)]
		group.Go(func() {
			for range increments {
				if err := increment(t, m, key); err != nil {
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
	kv := members[0].get(t, key)
	wantEqual(t, "value", string(kv.Value), strconv.Itoa(workers*increments))
	wantEqual(t, "version", kv.Version, workers*increments+1)
}

func increment(t *testing.T, m *member, key string) error {
	for {
		ctx := testContext(t)
		read, err := m.kv.Range(ctx, &pb.RangeRequest{Key: []byte(key)})
		if err != nil {
			return err
		}
		kv := read.Kvs[0]
		n, err := strconv.Atoi(string(kv.Value))
		if err != nil {
			return err
		}
		resp, err := m.kv.Txn(ctx, &pb.TxnRequest{
			Compare: []*pb.Compare{cmpMod(key, equal, kv.ModRevision)},
			Success: ops(opPut(key, strconv.Itoa(n+1))),
		})
		if err != nil || resp.Succeeded {
			return err
		}
	}
}

// A range sees all of a transaction or nothing, while transactions are under way.
func TestTransactionsAreAtomic(t *testing.T) {
	const rounds, keys = 60, 20
	p := newPrefix(t)
	write := func(m *member, i int) error {
		var list []*pb.RequestOp
		for k := range keys {
			list = append(list, opPut(fmt.Sprintf("%s%02d", p, k), strconv.Itoa(i)))
		}
		_, err := m.kv.Txn(testContext(t), &pb.TxnRequest{Success: list})
		return err
	}
	if err := write(members[0], 0); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		defer close(written)
		for i := range rounds {
			if err := write(members[i%len(members)], i); err != nil {
				written <- err
				return
			}
		}
	}()
	for done := false; !done; {
		select {
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
		}
		for _, m := range members {
			for _, serializable := range []bool{false, true} {
				wantOneValue(t, m, &pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), Serializable: serializable}, keys)
			}
		}
	}
}

func wantOneValue(t *testing.T, m *member, r *pb.RangeRequest, keys int) {
	t.Helper()
	resp := m.rng(t, r)
	stream, err := m.kv.RangeStream(testContext(t), r)
	if err != nil {
		t.Fatal(err)
	}
	streamed := &pb.RangeResponse{}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		streamed.Kvs = append(streamed.Kvs, chunk.RangeResponse.Kvs...)
	}
	for _, got := range []*pb.RangeResponse{resp, streamed} {
		if r.Serializable && len(got.Kvs) == 0 {
			continue // a member that has not seen the first write yet
		}
		wantEqual(t, "keys", len(got.Kvs), keys)
		for _, kv := range got.Kvs {
			wantEqual(t, "mod revision", kv.ModRevision, got.Kvs[0].ModRevision)
			wantEqual(t, "value", string(kv.Value), string(got.Kvs[0].Value))
		}
	}
}
