package conformance

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
)

// maxRequest is etcd's --max-request-bytes by default. It bounds the request
// with an envelope of some tens of bytes, so the tests stay clear of the edge.
const maxRequest = 3 << 19

const tooLargeText = "etcdserver: request is too large"

func TestRequestSize(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		rev := m.revision(t)
		chunk := make([]byte, maxRequest/8)
		var many []*pb.RequestOp
		for i := range 8 {
			many = append(many, opPutOf(&pb.PutRequest{Key: fmt.Appendf(nil, "%s%d", p, i), Value: chunk}))
		}
		_, err := m.kv.Put(testContext(t), &pb.PutRequest{Key: []byte(p), Value: make([]byte, maxRequest)})
		wantError(t, err, codes.InvalidArgument, tooLargeText)
		_, err = m.kv.Put(testContext(t), &pb.PutRequest{Key: append([]byte(p), make([]byte, maxRequest)...)})
		wantError(t, err, codes.InvalidArgument, tooLargeText)
		_, err = m.kv.Txn(testContext(t), &pb.TxnRequest{Success: many})
		wantError(t, err, codes.InvalidArgument, tooLargeText)
		_, err = m.kv.Txn(testContext(t), &pb.TxnRequest{Failure: many})
		wantError(t, err, codes.InvalidArgument, tooLargeText)
		_, err = m.kv.DeleteRange(testContext(t), &pb.DeleteRangeRequest{Key: append([]byte(p), make([]byte, maxRequest)...)})
		wantError(t, err, codes.InvalidArgument, tooLargeText)
		wantEqual(t, "revision", m.revision(t), rev)

		// A read is not proposed, so only the transport bounds it.
		m.rng(t, &pb.RangeRequest{Key: append([]byte(p), make([]byte, maxRequest)...)})

		m.doPut(t, &pb.PutRequest{Key: []byte(p), Value: make([]byte, maxRequest-4096)})
		wantEqual(t, "stored", len(m.get(t, p).Value), maxRequest-4096)
		m.txn(t, &pb.TxnRequest{Success: many[:7]})
		wantEqual(t, "keys", len(m.list(t, p)), 8)
		m.del(t, &pb.DeleteRangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p)})
	})
}

// Beyond 512 KiB more the transport refuses the message before it is decoded.
func TestMessageSize(t *testing.T) {
	const maxMessage = maxRequest + 512<<10
	onEachMember(t, func(t *testing.T, m *member) {
		r := &pb.PutRequest{Key: []byte("k"), Value: make([]byte, maxMessage)}
		const size = maxMessage + 3 + 5 // the key's and the value's tag and length, the key
		_, err := m.kv.Put(testContext(t), r)
		wantError(t, err, codes.ResourceExhausted, fmt.Sprintf("grpc: received message larger than max (%d vs. %d)", size, maxMessage))
		// The connection lives on.
		m.put(t, newPrefix(t), "")
	})
}
