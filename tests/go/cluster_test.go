package conformance

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

const (
	endpointsEnv = "MIZZEN_TEST_ENDPOINTS"
	// callTimeout bounds one call. It is far above what any call needs, so that
	// a hang becomes a failure and a slow machine does not.
	callTimeout = 30 * time.Second
	// maxReply lets a reply of any size through: the client's own bound of 4 MiB
	// is not what is tested.
	maxReply = 1 << 30
)

// member is one replica with a connection that goes to it alone.
type member struct {
	endpoint string
	conn     *grpc.ClientConn
	kv       pb.KVClient
	maint    pb.MaintenanceClient
	cluster  pb.ClusterClient
}

var members []*member

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	endpoints := os.Getenv(endpointsEnv)
	if endpoints == "" {
		fmt.Fprintf(os.Stderr, "%s must name the members: host:port,host:port,...\n", endpointsEnv)
		return 2
	}
	for _, endpoint := range strings.Split(endpoints, ",") {
		conn, err := grpc.NewClient("passthrough:///"+endpoint,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReply), grpc.MaxCallSendMsgSize(maxReply)))
		if err != nil {
			fmt.Fprintf(os.Stderr, "connect to %s: %v\n", endpoint, err)
			return 2
		}
		defer conn.Close()
		members = append(members, &member{
			endpoint: endpoint,
			conn:     conn,
			kv:       pb.NewKVClient(conn),
			maint:    pb.NewMaintenanceClient(conn),
			cluster:  pb.NewClusterClient(conn),
		})
	}
	code := m.Run()
	if code != 0 {
		fmt.Fprintf(os.Stderr, "reproduce: cd tests/go && %s=%s %s=%d go test -count=1 -run '<failed test>' .\n",
			endpointsEnv, endpoints, seedEnv, seed())
	}
	return code
}

const seedEnv = "MIZZEN_TEST_SEED"

// seed selects the random requests of the model tests.
func seed() int64 {
	if s, err := strconv.ParseInt(os.Getenv(seedEnv), 10, 64); err == nil {
		return s
	}
	return 1
}

// onEachMember runs one test through every member.
func onEachMember(t *testing.T, f func(t *testing.T, m *member)) {
	t.Helper()
	for i, m := range members {
		t.Run(fmt.Sprintf("member%d", i), func(t *testing.T) { f(t, m) })
	}
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	t.Cleanup(cancel)
	return ctx
}

var prefixes atomic.Int64

// newPrefix returns a key prefix that no test has used before, in this run or in
// an earlier one.
func newPrefix(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("conformance/%s/%d-%d/", t.Name(), time.Now().UnixNano(), prefixes.Add(1))
}

// newTopPrefix returns a prefix that sorts after every key that was written
// before, so that an open range from it holds the keys of the calling test only.
func newTopPrefix() string {
	return fmt.Sprintf("\xff\xff%020d-%010d/", time.Now().UnixNano(), prefixes.Add(1))
}

// prefixEnd is the end of the range of all keys that begin with prefix.
func prefixEnd(prefix string) []byte {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

func (m *member) put(t *testing.T, key, value string) *pb.PutResponse {
	t.Helper()
	return m.doPut(t, &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
}

func (m *member) doPut(t *testing.T, r *pb.PutRequest) *pb.PutResponse {
	t.Helper()
	resp, err := m.kv.Put(testContext(t), r)
	if err != nil {
		t.Fatalf("put %v: %v", r, err)
	}
	return resp
}

// get reads one key, nil if it is absent.
func (m *member) get(t *testing.T, key string) *mvccpb.KeyValue {
	t.Helper()
	resp := m.rng(t, &pb.RangeRequest{Key: []byte(key)})
	if len(resp.Kvs) == 0 {
		return nil
	}
	return resp.Kvs[0]
}

func (m *member) rng(t *testing.T, r *pb.RangeRequest) *pb.RangeResponse {
	t.Helper()
	resp, err := m.kv.Range(testContext(t), r)
	if err != nil {
		t.Fatalf("range %v: %v", r, err)
	}
	return resp
}

// list reads all keys with a prefix.
func (m *member) list(t *testing.T, prefix string) []*mvccpb.KeyValue {
	t.Helper()
	return m.rng(t, &pb.RangeRequest{Key: []byte(prefix), RangeEnd: prefixEnd(prefix)}).Kvs
}

func (m *member) del(t *testing.T, r *pb.DeleteRangeRequest) *pb.DeleteRangeResponse {
	t.Helper()
	resp, err := m.kv.DeleteRange(testContext(t), r)
	if err != nil {
		t.Fatalf("delete %v: %v", r, err)
	}
	return resp
}

func (m *member) txn(t *testing.T, r *pb.TxnRequest) *pb.TxnResponse {
	t.Helper()
	resp, err := m.kv.Txn(testContext(t), r)
	if err != nil {
		t.Fatalf("txn: %v", err)
	}
	return resp
}

// revision is the store's revision by a linearizable read.
func (m *member) revision(t *testing.T) int64 {
	t.Helper()
	return m.rng(t, &pb.RangeRequest{Key: []byte("conformance"), CountOnly: true}).Header.Revision
}

// wantError checks a gRPC status: etcd's clients compare the description.
func wantError(t *testing.T, err error, code codes.Code, description string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %v %q", code, description)
		return
	}
	s := status.Convert(err)
	if s.Code() != code || s.Message() != description {
		t.Errorf("error %v %q, want %v %q", s.Code(), s.Message(), code, description)
	}
}

func wantEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func wantProto(t *testing.T, what string, got, want proto.Message) {
	t.Helper()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func wantKVs(t *testing.T, what string, got, want []*mvccpb.KeyValue) {
	t.Helper()
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// keysOf gives the keys without the test's prefix, joined by a blank.
func keysOf(kvs []*mvccpb.KeyValue, prefix string) string {
	names := make([]string, len(kvs))
	for i, kv := range kvs {
		names[i] = strings.TrimPrefix(string(kv.Key), prefix)
	}
	return strings.Join(names, " ")
}
