package conformance

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/clientv3util"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"
	"go.uber.org/zap"
)

// newClient is etcd's client as programs use it, balancing over all members
// unless some are named.
func newClient(t *testing.T, of ...*member) *clientv3.Client {
	t.Helper()
	if len(of) == 0 {
		of = members
	}
	var endpoints []string
	for _, m := range of {
		endpoints = append(endpoints, m.endpoint)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: callTimeout, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func fill(t *testing.T, client *clientv3.Client, n int) string {
	t.Helper()
	p := newPrefix(t)
	for i := range n {
		if _, err := client.Put(testContext(t), fmt.Sprintf("%s%03d", p, i), strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestClientGetOptions(t *testing.T) {
	client := newClient(t)
	p := fill(t, client, 12)
	for _, c := range []struct {
		name    string
		key     string
		options []clientv3.OpOption
		want    string
	}{
		{"first key", p, clientv3.WithFirstKey(), "000"},
		{"last key", p, clientv3.WithLastKey(), "011"},
		{"first created", p, clientv3.WithFirstCreate(), "000"},
		{"last created", p, clientv3.WithLastCreate(), "011"},
		{"first modified", p, clientv3.WithFirstRev(), "000"},
		{"last modified", p, clientv3.WithLastRev(), "011"},
		{"range", p + "003", []clientv3.OpOption{clientv3.WithRange(p + "005")}, "003 004"},
		{"prefix", p + "01", []clientv3.OpOption{clientv3.WithPrefix()}, "010 011"},
		{"from key", p + "009", []clientv3.OpOption{clientv3.WithFromKey(), clientv3.WithLimit(3)}, "009 010 011"},
		{"by value", p + "00", []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByValue, clientv3.SortDescend), clientv3.WithLimit(2)}, "009 008"},
	} {
		resp, err := client.Get(testContext(t), c.key, c.options...)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		wantEqual(t, c.name, keysOf(resp.Kvs, p), c.want)
	}
}

// Pages of one list, as the Kubernetes API server reads them: limit, then from
// the key after the last one at the first page's revision.
func TestClientPages(t *testing.T) {
	client := newClient(t)
	p := fill(t, client, 25)
	end := clientv3.GetPrefixRangeEnd(p)
	var seen []string
	var revision int64
	for key := p; ; {
		resp, err := client.Get(testContext(t), key, clientv3.WithRange(end), clientv3.WithLimit(10), clientv3.WithRev(revision))
		if err != nil {
			t.Fatal(err)
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		wantEqual(t, "count", resp.Count, int64(25-len(seen)))
		for _, kv := range resp.Kvs {
			seen = append(seen, strings.TrimPrefix(string(kv.Key), p))
			key = string(kv.Key) + "\x00"
		}
		if !resp.More {
			break
		}
		// Writes between the pages do not show.
		if _, err := client.Delete(testContext(t), p, clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
	}
	wantEqual(t, "keys", len(seen), 25)
	wantEqual(t, "last", seen[len(seen)-1], "024")
}

func TestClientGetStream(t *testing.T) {
	client := newClient(t)
	p := fill(t, client, 35)
	stream, err := client.GetStream(testContext(t), p, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	got, err := clientv3.GetStreamToGetResponse(stream)
	if err != nil {
		t.Fatal(err)
	}
	want, err := client.Get(testContext(t), p, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	wantKVs(t, "streamed", got.Kvs, want.Kvs)
	wantEqual(t, "count", got.Count, want.Count)
}

func TestClientPutAndDelete(t *testing.T) {
	client := newClient(t)
	p := newPrefix(t)
	ctx := testContext(t)
	if _, err := client.Put(ctx, p, "1"); err != nil {
		t.Fatal(err)
	}
	put, err := client.Put(ctx, p, "2", clientv3.WithPrevKV())
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "prev value", string(put.PrevKv.Value), "1")
	if _, err = client.Put(ctx, p, "", clientv3.WithIgnoreValue()); err != nil {
		t.Fatal(err)
	}
	deleted, err := client.Delete(ctx, p, clientv3.WithPrevKV())
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "deleted", deleted.Deleted, 1)
	wantEqual(t, "prev value", string(deleted.PrevKvs[0].Value), "2")
	wantEqual(t, "prev version", deleted.PrevKvs[0].Version, 3)
}

// The client maps an error by its description; programs compare with its values.
func TestClientErrors(t *testing.T) {
	client := newClient(t)
	ctx := testContext(t)
	p := newPrefix(t)
	rev := members[0].put(t, p, "v").Header.Revision
	members[0].compact(t, rev, true)

	do := func(op clientv3.Op) error {
		_, err := client.Do(ctx, op)
		return err
	}
	twice := clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut(p, ""), clientv3.OpPut(p, "")}, nil)
	_, compactErr := client.Compact(ctx, rev)
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"empty key", do(clientv3.OpGet("")), rpctypes.ErrEmptyKey},
		{"key not found", do(clientv3.OpPut(p+"x", "", clientv3.WithIgnoreValue())), rpctypes.ErrKeyNotFound},
		{"lease not found", do(clientv3.OpPut(p, "", clientv3.WithLease(unknownLease))), rpctypes.ErrLeaseNotFound},
		{"duplicate key", do(twice), rpctypes.ErrDuplicateKey},
		{"future", do(clientv3.OpGet(p, clientv3.WithRev(rev+1000))), rpctypes.ErrFutureRev},
		{"compacted", do(clientv3.OpGet(p, clientv3.WithRev(rev-1))), rpctypes.ErrCompacted},
		{"compacted again", compactErr, rpctypes.ErrCompacted},
		{"too large", do(clientv3.OpPut(p, strings.Repeat("x", maxRequest))), rpctypes.ErrRequestTooLarge},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, c.err, c.want)
		}
	}
}

func TestClientTxn(t *testing.T) {
	client := newClient(t)
	p := newPrefix(t)
	create := func() *clientv3.TxnResponse {
		resp, err := client.Txn(testContext(t)).
			If(clientv3util.KeyMissing(p)).
			Then(clientv3.OpPut(p, "mine")).
			Else(clientv3.OpGet(p)).Commit()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	wantEqual(t, "first", create().Succeeded, true)
	second := create()
	wantEqual(t, "second", second.Succeeded, false)
	wantEqual(t, "read", string(second.Responses[0].GetResponseRange().Kvs[0].Value), "mine")

	nested, err := client.Txn(testContext(t)).
		If(clientv3.Compare(clientv3.Value(p).WithPrefix(), "=", "mine"), clientv3util.KeyExists(p)).
		Then(clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Version(p), ">", 1)}, nil, []clientv3.Op{clientv3.OpDelete(p)})).
		Commit()
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "nested deleted", nested.Responses[0].GetResponseTxn().Responses[0].GetResponseDeleteRange().Deleted, 1)
}

func TestClientNamespaceAndOrdering(t *testing.T) {
	client := newClient(t)
	p := newPrefix(t)
	ctx := testContext(t)
	kv := ordering.NewKV(namespace.NewKV(client.KV, p), func(clientv3.Op, clientv3.OpResponse, int64) error {
		return errors.New("revision went back")
	})
	for i := range 20 {
		if _, err := kv.Put(ctx, "k", strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
		resp, err := kv.Get(ctx, "k")
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "value", string(resp.Kvs[0].Value), strconv.Itoa(i))
	}
	wantEqual(t, "key", string(members[0].list(t, p)[0].Key), p+"k")
}

// Software transactional memory of the client library: money moves, none is made.
// A worker keeps to one member, since the library reads serializably at a revision
// that another member may not have reached.
func TestClientSTM(t *testing.T) {
	const accounts, workers, moves = 4, 4, 15
	p := newPrefix(t)
	account := func(i int) string { return p + strconv.Itoa(i%accounts) }
	for i := range accounts {
		members[0].put(t, account(i), "100")
	}
	failures := make(chan error, workers)
	for w := range workers {
		client := newClient(t, members[w%len(members)])
		go func() {
			for i := range moves {
				_, err := concurrency.NewSTM(client, func(s concurrency.STM) error {
					return move(s, account(w+i), account(w+2*i+1))
				}, concurrency.WithAbortContext(testContext(t)))
				if err != nil {
					failures <- err
					return
				}
			}
			failures <- nil
		}()
	}
	for range workers {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
	sum := 0
	for _, kv := range members[len(members)-1].list(t, p) {
		n, err := strconv.Atoi(string(kv.Value))
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	wantEqual(t, "sum", sum, 100*accounts)
}

func move(s concurrency.STM, from, to string) error {
	if from == to {
		return nil
	}
	a, err := strconv.Atoi(s.Get(from))
	if err != nil {
		return err
	}
	b, err := strconv.Atoi(s.Get(to))
	if err != nil {
		return err
	}
	s.Put(from, strconv.Itoa(a-1))
	s.Put(to, strconv.Itoa(b+1))
	return nil
}
