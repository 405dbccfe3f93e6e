package conformance

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
)

func opPut(key, value string) *pb.RequestOp {
	return opPutOf(&pb.PutRequest{Key: []byte(key), Value: []byte(value)})
}

func opPutOf(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func opGet(key string) *pb.RequestOp {
	return opRange(&pb.RangeRequest{Key: []byte(key)})
}

func opRange(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func opList(prefix string) *pb.RequestOp {
	return opRange(&pb.RangeRequest{Key: []byte(prefix), RangeEnd: prefixEnd(prefix)})
}

func opDel(key string, end []byte) *pb.RequestOp {
	return opDelOf(&pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: end})
}

func opDelOf(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func opTxn(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

func ops(o ...*pb.RequestOp) []*pb.RequestOp { return o }

func header(revision int64) *pb.ResponseHeader { return &pb.ResponseHeader{Revision: revision} }

func TestTxnBranches(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.put(t, p+"k", "v")
		run := func(given string) *pb.TxnResponse {
			return m.txn(t, &pb.TxnRequest{
				Compare: []*pb.Compare{cmpValue(p+"k", equal, given)},
				Success: ops(opPut(p+"then", given)),
				Failure: ops(opPut(p+"else", given), opGet(p+"k")),
			})
		}
		resp := run("v")
		wantEqual(t, "succeeded", resp.Succeeded, true)
		wantEqual(t, "replies", len(resp.Responses), 1)
		wantEqual(t, "keys", keysOf(m.list(t, p), p), "k then")
		resp = run("w")
		wantEqual(t, "succeeded", resp.Succeeded, false)
		wantEqual(t, "replies", len(resp.Responses), 2)
		wantEqual(t, "keys", keysOf(m.list(t, p), p), "else k then")
	})
}

// Each operation sees what those before it did, all writes carry one revision,
// and the header of an inner reply holds a revision only.
func TestTxnReplies(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		r0 := m.put(t, p+"old", "1").Header.Revision
		rev := r0 + 1
		old := &mvccpb.KeyValue{Key: []byte(p + "old"), Value: []byte("1"), CreateRevision: r0, ModRevision: r0, Version: 1}
		newer := &mvccpb.KeyValue{Key: []byte(p + "old"), Value: []byte("2"), CreateRevision: r0, ModRevision: rev, Version: 2}
		made := &mvccpb.KeyValue{Key: []byte(p + "made"), Value: []byte("3"), CreateRevision: rev, ModRevision: rev, Version: 1}

		resp := m.txn(t, &pb.TxnRequest{Success: ops(
			opList(p),
			opDel(p+"missing", nil),
			opPutOf(&pb.PutRequest{Key: []byte(p + "old"), Value: []byte("2"), PrevKv: true}),
			opPut(p+"made", "3"),
			opList(p),
			opDel(p+"missing", nil),
			opRange(&pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), Revision: r0}),
			opDelOf(&pb.DeleteRangeRequest{Key: []byte(p + "x"), PrevKv: true}),
		)})
		wantEqual(t, "header revision", resp.Header.Revision, rev)
		wants := []*pb.ResponseOp{
			{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{Header: header(r0), Kvs: []*mvccpb.KeyValue{old}, Count: 1}}},
			{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{Header: header(r0)}}},
			{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{Header: header(rev), PrevKv: old}}},
			{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{Header: header(rev)}}},
			{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{Header: header(rev), Kvs: []*mvccpb.KeyValue{made, newer}, Count: 2}}},
			{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{Header: header(rev)}}},
			{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{Header: header(rev), Kvs: []*mvccpb.KeyValue{old}, Count: 1}}},
			{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{Header: header(rev)}}},
		}
		if len(resp.Responses) != len(wants) {
			t.Fatalf("%d replies, want %d", len(resp.Responses), len(wants))
		}
		for i, want := range wants {
			wantProto(t, fmt.Sprintf("reply %d", i), resp.Responses[i], want)
		}
		wantKVs(t, "stored", m.list(t, p), []*mvccpb.KeyValue{made, newer})
	})
}

func TestTxnDelete(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.putKeys(t, p, "a", "b", "c")
		before := m.list(t, p)
		rev := m.revision(t) + 1
		resp := m.txn(t, &pb.TxnRequest{Success: ops(
			opDelOf(&pb.DeleteRangeRequest{Key: []byte(p + "a"), RangeEnd: []byte(p + "c"), PrevKv: true}),
			opDelOf(&pb.DeleteRangeRequest{Key: []byte(p + "a"), RangeEnd: prefixEnd(p), PrevKv: true}),
			opList(p),
		)})
		wantEqual(t, "header revision", resp.Header.Revision, rev)
		first, second := resp.Responses[0].GetResponseDeleteRange(), resp.Responses[1].GetResponseDeleteRange()
		wantProto(t, "first", first, &pb.DeleteRangeResponse{Header: header(rev), Deleted: 2, PrevKvs: before[:2]})
		// The second finds what the first left.
		wantProto(t, "second", second, &pb.DeleteRangeResponse{Header: header(rev), Deleted: 1, PrevKvs: before[2:]})
		wantProto(t, "list", resp.Responses[2].GetResponseRange(), &pb.RangeResponse{Header: header(rev)})
	})
}

func TestTxnRangeOptions(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.putKeys(t, p, "a", "b", "c")
		resp := m.txn(t, &pb.TxnRequest{Success: ops(
			opPut(p+"d", ""),
			opRange(&pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), Limit: 2, SortOrder: pb.RangeRequest_DESCEND}),
			opRange(&pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), Limit: 1}),
			opRange(&pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), CountOnly: true}),
			opRange(&pb.RangeRequest{Key: []byte(p), RangeEnd: prefixEnd(p), KeysOnly: true, Serializable: true}),
		)})
		at := func(i int) *pb.RangeResponse { return resp.Responses[i].GetResponseRange() }
		wantEqual(t, "sorted", keysOf(at(1).Kvs, p), "d c")
		wantEqual(t, "sorted: more", at(1).More, true)
		wantEqual(t, "sorted: count", at(1).Count, 4)
		wantEqual(t, "limit", keysOf(at(2).Kvs, p), "a")
		wantEqual(t, "limit: more", at(2).More, true)
		wantEqual(t, "limit: count", at(2).Count, 4)
		wantEqual(t, "count_only: count", at(3).Count, 4)
		wantEqual(t, "count_only: keys", len(at(3).Kvs), 0)
		wantEqual(t, "keys_only", keysOf(at(4).Kvs, p), "a b c d")
		wantEqual(t, "keys_only: value", len(at(4).Kvs[0].Value), 0)
	})
}

// A transaction that changes nothing makes no revision.
func TestTxnWithoutEffect(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.put(t, p+"k", "v")
		rev := m.revision(t)
		for name, r := range map[string]*pb.TxnRequest{
			"empty":             {},
			"compare only":      {Compare: []*pb.Compare{cmpVersion(p+"k", equal, 1)}},
			"read only":         {Success: ops(opGet(p + "k"))},
			"serializable":      {Success: ops(opRange(&pb.RangeRequest{Key: []byte(p + "k"), Serializable: true}))},
			"delete of nothing": {Success: ops(opDel(p+"x", prefixEnd(p)))},
			"nested read":       {Success: ops(opTxn(&pb.TxnRequest{Success: ops(opGet(p + "k"))}))},
			"branch not taken":  {Success: ops(opGet(p + "k")), Failure: ops(opPut(p+"k", "w"))},
		} {
			wantEqual(t, name+": header revision", m.txn(t, r).Header.Revision, rev)
			wantEqual(t, name+": revision", m.revision(t), rev)
		}
		wantEqual(t, "mod revision", m.get(t, p+"k").ModRevision, rev)
	})
}

func TestTxnReadOnlyIsLinearizable(t *testing.T) {
	p := newPrefix(t)
	for i := range 20 {
		for j, writer := range members {
			value := fmt.Sprintf("%d-%d", i, j)
			rev := writer.put(t, p, value).Header.Revision
			for _, reader := range members {
				resp := reader.txn(t, &pb.TxnRequest{
					Compare: []*pb.Compare{cmpValue(p, equal, value)},
					Success: ops(opGet(p)),
				})
				wantEqual(t, "succeeded", resp.Succeeded, true)
				wantEqual(t, "header revision", resp.Header.Revision, rev)
			}
		}
	}
}

func TestTxnNested(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		rev := m.put(t, p+"k", "v").Header.Revision + 1
		inner := func(given, tag string) *pb.RequestOp {
			return opTxn(&pb.TxnRequest{
				Compare: []*pb.Compare{cmpValue(p+"k", equal, given)},
				Success: ops(opPut(p+tag+"-then", "")),
				Failure: ops(opPut(p+tag+"-else", "")),
			})
		}
		resp := m.txn(t, &pb.TxnRequest{
			Compare: []*pb.Compare{cmpVersion(p+"k", equal, 1)},
			Success: ops(
				inner("v", "1"),
				opTxn(&pb.TxnRequest{
					Compare: []*pb.Compare{cmpValue(p+"k", equal, "w")},
					Failure: ops(inner("v", "2"), inner("w", "3"), opList(p)),
				}),
				inner("w", "4"),
			),
		})
		wantEqual(t, "header revision", resp.Header.Revision, rev)
		wantEqual(t, "keys", keysOf(m.list(t, p), p), "1-then 2-then 3-else 4-else k")

		first := resp.Responses[0].GetResponseTxn()
		wantProto(t, "first", first, &pb.TxnResponse{
			Header: &pb.ResponseHeader{}, Succeeded: true,
			Responses: []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{Header: header(rev)}}}},
		})
		second := resp.Responses[1].GetResponseTxn()
		wantEqual(t, "second", second.Succeeded, false)
		wantEqual(t, "second, first", second.Responses[0].GetResponseTxn().Succeeded, true)
		wantEqual(t, "second, second", second.Responses[1].GetResponseTxn().Succeeded, false)
		wantEqual(t, "second, list", keysOf(second.Responses[2].GetResponseRange().Kvs, p), "1-then 2-then 3-else k")
		wantEqual(t, "third", resp.Responses[2].GetResponseTxn().Succeeded, false)
	})
}

// All comparisons, nested ones too, are made on the state before the transaction.
func TestTxnNestedComparesSeeTheStateBefore(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.put(t, p+"k", "old")
		resp := m.txn(t, &pb.TxnRequest{Success: ops(
			opPut(p+"k", "new"),
			opTxn(&pb.TxnRequest{
				Compare: []*pb.Compare{cmpValue(p+"k", equal, "new")},
				Success: ops(opPut(p+"saw-new", "")),
				Failure: ops(opGet(p+"k"), opPut(p+"saw-old", "")),
			}),
		)})
		inner := resp.Responses[1].GetResponseTxn()
		wantEqual(t, "succeeded", inner.Succeeded, false)
		wantEqual(t, "keys", keysOf(m.list(t, p), p), "k saw-old")
		// The operations, on the other hand, see the effect of those before.
		wantEqual(t, "read", string(inner.Responses[0].GetResponseRange().Kvs[0].Value), "new")
	})
}

func TestTxnDeepNesting(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		r := &pb.TxnRequest{Success: ops(opPut(p+"0", ""))}
		for i := 1; i < 20; i++ {
			r = &pb.TxnRequest{Success: ops(opPut(fmt.Sprintf("%s%d", p, i), ""), opTxn(r))}
		}
		rev := m.txn(t, r).Header.Revision
		kvs := m.list(t, p)
		wantEqual(t, "keys", len(kvs), 20)
		for _, kv := range kvs {
			wantEqual(t, "mod revision", kv.ModRevision, rev)
		}
	})
}

func TestTxnIgnoreValue(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.put(t, p+"k", "keep")
		m.txn(t, &pb.TxnRequest{Success: ops(opPutOf(&pb.PutRequest{Key: []byte(p + "k"), IgnoreValue: true, IgnoreLease: true}))})
		kv := m.get(t, p+"k")
		wantEqual(t, "value", string(kv.Value), "keep")
		wantEqual(t, "version", kv.Version, 2)
	})
}

// A transaction that is refused has no effect at all.
func TestTxnRefusals(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.put(t, p+"k", "v")
		rev := m.revision(t)
		write := opPut(p+"written", "")
		rangeAt := func(revision int64) *pb.RequestOp {
			return opRange(&pb.RangeRequest{Key: []byte(p + "k"), Revision: revision})
		}
		leased := opPutOf(&pb.PutRequest{Key: []byte(p + "leased"), Lease: unknownLease})
		for _, c := range []struct {
			name    string
			request *pb.TxnRequest
			code    codes.Code
			text    string
		}{
			{"compare, empty key", &pb.TxnRequest{Compare: []*pb.Compare{{}}, Success: ops(write)}, codes.InvalidArgument, emptyKeyText},
			{"put, empty key", &pb.TxnRequest{Success: ops(write, opPut("", ""))}, codes.InvalidArgument, emptyKeyText},
			{"range, empty key", &pb.TxnRequest{Success: ops(write, opGet(""))}, codes.InvalidArgument, emptyKeyText},
			{"delete, empty key", &pb.TxnRequest{Success: ops(write, opDel("", nil))}, codes.InvalidArgument, emptyKeyText},
			{"nested, empty key", &pb.TxnRequest{Success: ops(write, opTxn(&pb.TxnRequest{Failure: ops(opPut("", ""))}))}, codes.InvalidArgument, emptyKeyText},
			{"branch not taken, empty key", &pb.TxnRequest{Success: ops(write), Failure: ops(opPut("", ""))}, codes.InvalidArgument, emptyKeyText},
			{"empty operation", &pb.TxnRequest{Success: ops(write, &pb.RequestOp{})}, codes.InvalidArgument, keyNotFoundText},
			{"invalid sort", &pb.TxnRequest{Success: ops(write, opRange(&pb.RangeRequest{Key: []byte(p), SortOrder: 5}))}, codes.InvalidArgument, sortOptionText},
			{"value and ignore_value", &pb.TxnRequest{Success: ops(opPutOf(&pb.PutRequest{Key: []byte(p), Value: []byte("v"), IgnoreValue: true}))}, codes.InvalidArgument, valueProvidedText},
			{"lease and ignore_lease", &pb.TxnRequest{Success: ops(opPutOf(&pb.PutRequest{Key: []byte(p), Lease: 1, IgnoreLease: true}))}, codes.InvalidArgument, leaseProvidedText},
			{"ignore_value, missing key", &pb.TxnRequest{Success: ops(write, opPutOf(&pb.PutRequest{Key: []byte(p + "x"), IgnoreValue: true}))}, codes.InvalidArgument, keyNotFoundText},
			{"ignore_lease, missing key", &pb.TxnRequest{Success: ops(write, opPutOf(&pb.PutRequest{Key: []byte(p + "x"), IgnoreLease: true}))}, codes.InvalidArgument, keyNotFoundText},
			{"unknown lease", &pb.TxnRequest{Success: ops(write, leased)}, codes.NotFound, leaseNotFoundText},
			{"unknown lease, nested", &pb.TxnRequest{Success: ops(write, opTxn(&pb.TxnRequest{Success: ops(leased)}))}, codes.NotFound, leaseNotFoundText},
			{"future, read only", &pb.TxnRequest{Success: ops(rangeAt(rev + 1000))}, codes.OutOfRange, futureText},
			{"future, with a write", &pb.TxnRequest{Success: ops(write, rangeAt(rev+1000))}, codes.OutOfRange, futureText},
			// The revision that the transaction is about to make is a future one too.
			{"its own revision", &pb.TxnRequest{Success: ops(write, rangeAt(rev+1))}, codes.OutOfRange, futureText},
			{"future goes before lease, by position", &pb.TxnRequest{Success: ops(rangeAt(rev+1000), leased)}, codes.OutOfRange, futureText},
			{"lease goes before future, by position", &pb.TxnRequest{Success: ops(leased, rangeAt(rev+1000))}, codes.NotFound, leaseNotFoundText},
		} {
			t.Run(c.name, func(t *testing.T) {
				_, err := m.kv.Txn(testContext(t), c.request)
				wantError(t, err, c.code, c.text)
			})
		}
		wantEqual(t, "revision after refused transactions", m.revision(t), rev)
		wantEqual(t, "keys", keysOf(m.list(t, p), p), "k")

		// What needs the state to be refused is checked on the taken branch only.
		m.txn(t, &pb.TxnRequest{Success: ops(write), Failure: ops(leased, rangeAt(rev+1000))})
		wantEqual(t, "keys", keysOf(m.list(t, p), p), "k written")
	})
}

func TestTxnTooManyOperations(t *testing.T) {
	const text = "etcdserver: too many operations in txn request"
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		puts := func(tag string, n int) []*pb.RequestOp {
			var list []*pb.RequestOp
			for i := range n {
				list = append(list, opPut(fmt.Sprintf("%s%s%d", p, tag, i), ""))
			}
			return list
		}
		compares := func(n int) []*pb.Compare {
			var list []*pb.Compare
			for range n {
				list = append(list, cmpVersion(p, equal, 0))
			}
			return list
		}
		nested := func(outer, inner int) *pb.TxnRequest {
			return &pb.TxnRequest{Success: append(puts("o", outer-1), opTxn(&pb.TxnRequest{Success: puts("i", inner)}))}
		}
		for _, c := range []struct {
			name    string
			request *pb.TxnRequest
			refused bool
		}{
			{"128 in each list", &pb.TxnRequest{Compare: compares(128), Success: puts("s", 128), Failure: puts("f", 128)}, false},
			{"129 compares", &pb.TxnRequest{Compare: compares(129)}, true},
			{"129 on success", &pb.TxnRequest{Success: puts("s", 129)}, true},
			{"129 on failure", &pb.TxnRequest{Failure: puts("f", 129)}, true},
			// A nested transaction gets what its parent's longest list leaves.
			{"100 with 28 nested", nested(100, 28), false},
			{"100 with 29 nested", nested(100, 29), true},
			{"128 with none nested", nested(128, 0), false},
			{"128 with 1 nested", nested(128, 1), true},
			{"100 compares with 29 nested", &pb.TxnRequest{Compare: compares(100), Success: ops(opTxn(&pb.TxnRequest{Success: puts("c", 29)}))}, true},
			{"64 nested twice", &pb.TxnRequest{Success: append(puts("a", 63),
				opTxn(&pb.TxnRequest{Success: puts("b", 64)}))}, false},
			{"64, 64, 1 nested", &pb.TxnRequest{Success: append(puts("a", 63),
				opTxn(&pb.TxnRequest{Success: append(puts("b", 63), opTxn(&pb.TxnRequest{Success: puts("c", 1)}))}))}, true},
		} {
			t.Run(c.name, func(t *testing.T) {
				_, err := m.kv.Txn(testContext(t), c.request)
				if c.refused {
					wantError(t, err, codes.InvalidArgument, text)
				} else if err != nil {
					t.Error(err)
				}
			})
		}
	})
}

func TestTxnDuplicateKeys(t *testing.T) {
	const text = "etcdserver: duplicate key given in txn request"
	onEachMember(t, func(t *testing.T, m *member) {
		base := newTopPrefix()
		then := func(o ...*pb.RequestOp) *pb.RequestOp { return opTxn(&pb.TxnRequest{Success: o}) }
		both := func(a, b *pb.RequestOp) *pb.RequestOp {
			return opTxn(&pb.TxnRequest{Success: ops(a), Failure: ops(b)})
		}
		put := func(k string) *pb.RequestOp { return opPut(base+k, "") }
		del := func(k, end string) *pb.RequestOp { return opDel(base+k, []byte(base+end)) }
		one := func(k string) *pb.RequestOp { return opDel(base+k, nil) }
		for _, c := range []struct {
			name    string
			ops     []*pb.RequestOp
			refused bool
		}{
			{"put twice", ops(put("a"), put("a")), true},
			{"put and get", ops(put("a"), opGet(base+"a"), put("b")), false},
			{"put then delete", ops(put("a"), one("a")), true},
			{"delete then put", ops(one("a"), put("a")), true},
			{"put in a deleted range", ops(del("a", "c"), put("b")), true},
			{"put at the begin of a deleted range", ops(del("a", "c"), put("a")), true},
			{"put at the end of a deleted range", ops(del("a", "c"), put("c")), false},
			{"put in an inverted range", ops(del("c", "a"), put("b")), false},
			{"delete twice", ops(one("a"), one("a")), false},
			{"overlapping deletes", ops(del("a", "c"), del("b", "d")), false},
			{"nested put, then put", ops(then(put("a")), put("a")), true},
			{"put, then nested put", ops(put("a"), then(put("a"))), true},
			{"nested put twice", ops(then(put("a")), then(put("a"))), true},
			{"put in both branches", ops(both(put("a"), put("a"))), false},
			{"put in both branches, then put", ops(both(put("a"), put("a")), put("a")), true},
			{"put in both branches, then nested in one", ops(both(put("a"), put("a")), both(put("b"), put("a"))), true},
			{"delete in one branch, put in the other", ops(both(one("a"), put("a"))), false},
			{"nested delete, then put", ops(then(one("a")), put("a")), true},
			{"delete, then nested put", ops(one("a"), then(put("a"))), true},
			{"nested put, then delete", ops(then(put("a")), one("a")), true},
			{"nested delete, then nested put", ops(then(del("a", "c")), then(put("b"))), true},
			// Deletes of an earlier sibling count, those of a later one do not.
			{"nested put, then nested delete", ops(then(put("b")), then(del("a", "c"))), false},
			{"two levels down", ops(then(then(put("a"))), put("a")), true},
			{"put twice inside", ops(then(put("a"), put("a"))), true},
		} {
			for _, branch := range []string{"success", "failure"} {
				t.Run(c.name+" on "+branch, func(t *testing.T) {
					r := &pb.TxnRequest{Success: c.ops}
					if branch == "failure" {
						r = &pb.TxnRequest{Failure: c.ops}
					}
					_, err := m.kv.Txn(testContext(t), r)
					if c.refused {
						wantError(t, err, codes.InvalidArgument, text)
					} else if err != nil {
						t.Error(err)
					}
				})
			}
		}
	})
}

// A later operation decides where the rules let two operations meet.
func TestTxnPutAndDeleteMeet(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newPrefix(t)
		m.put(t, p+"b", "old")
		then := func(o ...*pb.RequestOp) *pb.RequestOp { return opTxn(&pb.TxnRequest{Success: o}) }
		resp := m.txn(t, &pb.TxnRequest{Success: ops(then(opPut(p+"b", "new")), then(opDel(p+"a", []byte(p+"c"))))})
		wantEqual(t, "deleted", resp.Responses[1].GetResponseTxn().Responses[0].GetResponseDeleteRange().Deleted, 1)
		wantEqual(t, "keys", keysOf(m.list(t, p), p), "")
	})
}

// The overlap check does not see an open range, so a put after such a delete goes
// through, as the first version of a new key.
func TestTxnPutAfterOpenDelete(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newTopPrefix()
		m.putKeys(t, p, "a", "b", "b")
		rev := m.revision(t) + 1
		resp := m.txn(t, &pb.TxnRequest{Success: ops(
			opDel(p, []byte{0}),
			opPutOf(&pb.PutRequest{Key: []byte(p + "b"), Value: []byte("new"), PrevKv: true}),
		)})
		wantEqual(t, "deleted", resp.Responses[0].GetResponseDeleteRange().Deleted, 2)
		if prev := resp.Responses[1].GetResponsePut().PrevKv; prev != nil {
			t.Errorf("prev_kv of a deleted key: %v", prev)
		}
		wantKVs(t, "stored", m.list(t, p), []*mvccpb.KeyValue{{
			Key: []byte(p + "b"), Value: []byte("new"), CreateRevision: rev, ModRevision: rev, Version: 1,
		}})
		m.txn(t, &pb.TxnRequest{Success: ops(opPut(p+"c", ""), opDel(p, []byte{0}))})
		wantEqual(t, "keys", keysOf(m.list(t, p), p), "")
	})
}
