package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
)

// next is the next response of a watch; it must not have ended.
func next(t *testing.T, responses clientv3.WatchChan) clientv3.WatchResponse {
	t.Helper()
	resp, ok := <-responses
	if !ok {
		t.Fatal("the watch has ended")
	}
	return resp
}

// clientEvents receives n events and writes them as text.
func clientEvents(t *testing.T, responses clientv3.WatchChan, n int, prefix string) string {
	t.Helper()
	var texts []string
	for len(texts) < n {
		resp := next(t, responses)
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, event := range resp.Events {
			text := fmt.Sprintf("%v %s=%s", event.Type, strings.TrimPrefix(string(event.Kv.Key), prefix), event.Kv.Value)
			if event.PrevKv != nil {
				text += fmt.Sprintf(" before %s", event.PrevKv.Value)
			}
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, ", ")
}

// The options of etcd's client, through every member and through all of them.
func TestClientWatchOptions(t *testing.T) {
	for _, of := range append([][]*member{members}, eachAlone()...) {
		client := newClient(t, of...)
		p := newPrefix(t)
		first, err := client.Put(testContext(t), p+"a", "0")
		if err != nil {
			t.Fatal(err)
		}
		ctx := clientv3.WithRequireLeader(testContext(t))
		rev := clientv3.WithRev(first.Header.Revision + 1)
		watches := []struct {
			name      string
			responses clientv3.WatchChan
			want      string
		}{
			{"key", client.Watch(ctx, p+"a", rev), "PUT a=1, DELETE a=, PUT a=2"},
			{"prefix", client.Watch(ctx, p, clientv3.WithPrefix(), rev), "PUT a=1, PUT b=1, DELETE a=, PUT a=2"},
			{"range", client.Watch(ctx, p+"b", clientv3.WithRange(p+"c"), rev), "PUT b=1"},
			{"no puts", client.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithFilterPut(), rev), "DELETE a="},
			{"no deletes", client.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithFilterDelete(), rev), "PUT a=1, PUT b=1, PUT a=2"},
			{"fragments", client.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithFragment(), rev), "PUT a=1, PUT b=1, DELETE a=, PUT a=2"},
		}
		puts := func(key, value string) {
			if _, err := client.Put(ctx, p+key, value); err != nil {
				t.Fatal(err)
			}
		}
		puts("a", "1")
		puts("b", "1")
		if _, err := client.Delete(ctx, p+"a"); err != nil {
			t.Fatal(err)
		}
		puts("a", "2")
		for _, w := range watches {
			wantEqual(t, w.name, clientEvents(t, w.responses, strings.Count(w.want, ",")+1, p), w.want)
		}
		// Alone, when nobody else is told of the same events.
		previous := client.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithPrevKV(), rev)
		wantEqual(t, "previous", clientEvents(t, previous, 4, p), "PUT a=1 before 0, PUT b=1, DELETE a= before 1, PUT a=2")
	}
}

func eachAlone() [][]*member {
	var alone [][]*member
	for _, m := range members {
		alone = append(alone, []*member{m})
	}
	return alone
}

func TestClientWatchCompacted(t *testing.T) {
	for _, of := range eachAlone() {
		client := newClient(t, of...)
		p := newPrefix(t)
		of[0].put(t, p, "1")
		rev := of[0].put(t, p, "2").Header.Revision
		of[0].compact(t, rev, true)
		responses := client.Watch(testContext(t), p, clientv3.WithRev(rev-1), clientv3.WithCreatedNotify())
		wantEqual(t, "created", next(t, responses).Created, true)
		resp := next(t, responses)
		wantEqual(t, "canceled", resp.Canceled, true)
		wantEqual(t, "compact revision", resp.CompactRevision, rev)
		if !errors.Is(resp.Err(), rpctypes.ErrCompacted) {
			t.Errorf("error %v", resp.Err())
		}
		if resp, ok := <-responses; ok {
			t.Errorf("after the end: %v", resp)
		}
		// As a reader does that has been away for too long.
		responses = client.Watch(testContext(t), p, clientv3.WithRev(resp.CompactRevision))
		wantEqual(t, "again", clientEvents(t, responses, 1, p), "PUT =2")
	}
}

func TestClientWatchRefused(t *testing.T) {
	client := newClient(t)
	p := newPrefix(t)
	for name, responses := range map[string]clientv3.WatchChan{
		"empty range": client.Watch(testContext(t), p+"b", clientv3.WithRange(p+"a")),
		"negative":    client.Watch(testContext(t), p, clientv3.WithRev(-1)),
	} {
		resp, ok := <-responses
		if !ok || !resp.Canceled || resp.Err() == nil {
			t.Errorf("%s: %v %v", name, ok, resp)
		}
		if resp, ok := <-responses; ok {
			t.Errorf("%s: after the end: %v", name, resp)
		}
	}
}

func TestClientWatchProgress(t *testing.T) {
	for _, of := range eachAlone() {
		client := newClient(t, of...)
		p := newPrefix(t)
		ctx := testContext(t)
		one := client.Watch(ctx, p+"a", clientv3.WithCreatedNotify())
		two := client.Watch(ctx, p+"b", clientv3.WithCreatedNotify())
		next(t, one)
		next(t, two)
		rev := of[0].put(t, p+"c", "v").Header.Revision
		if err := client.RequestProgress(ctx); err != nil {
			t.Fatal(err)
		}
		for _, responses := range []clientv3.WatchChan{one, two} {
			resp := next(t, responses)
			wantEqual(t, "progress", resp.IsProgressNotify(), true)
			wantEqual(t, "revision", resp.Header.Revision, rev)
		}
		// With --watch-progress-notify-interval=100ms.
		notified := client.Watch(ctx, p+"d", clientv3.WithProgressNotify())
		resp := next(t, notified)
		wantEqual(t, "notified", resp.IsProgressNotify(), true)
		wantEqual(t, "revision", resp.Header.Revision, rev)
	}
}

func TestClientWatchCanceled(t *testing.T) {
	client := newClient(t)
	p := newPrefix(t)
	var cancels []context.CancelFunc
	var watches []clientv3.WatchChan
	for range 50 {
		ctx, cancel := context.WithCancel(testContext(t))
		cancels = append(cancels, cancel)
		responses := client.Watch(ctx, p, clientv3.WithCreatedNotify())
		next(t, responses)
		watches = append(watches, responses)
	}
	for i := range cancels[:49] {
		cancels[i]()
		for range watches[i] {
		}
	}
	members[0].put(t, p, "v")
	wantEqual(t, "the last one", clientEvents(t, watches[49], 1, p), "PUT =v")
}

func TestClientWatchNamespace(t *testing.T) {
	client := newClient(t)
	p := newPrefix(t)
	watcher := namespace.NewWatcher(client.Watcher, p)
	rev := members[0].put(t, p+"k", "v").Header.Revision
	all := watcher.Watch(testContext(t), "", clientv3.WithFromKey(), clientv3.WithRev(rev))
	wantEqual(t, "events", clientEvents(t, all, 1, ""), "PUT k=v")
}
