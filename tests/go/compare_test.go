package conformance

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	equal    = pb.Compare_EQUAL
	greater  = pb.Compare_GREATER
	less     = pb.Compare_LESS
	notEqual = pb.Compare_NOT_EQUAL
)

var operators = []pb.Compare_CompareResult{equal, greater, less, notEqual}

func holds(op pb.Compare_CompareResult, order int) bool {
	switch op {
	case equal:
		return order == 0
	case greater:
		return order > 0
	case less:
		return order < 0
	default:
		return order != 0
	}
}

func cmpVersion(key string, op pb.Compare_CompareResult, v int64) *pb.Compare {
	return &pb.Compare{Key: []byte(key), Target: pb.Compare_VERSION, Result: op, TargetUnion: &pb.Compare_Version{Version: v}}
}

func cmpCreate(key string, op pb.Compare_CompareResult, v int64) *pb.Compare {
	return &pb.Compare{Key: []byte(key), Target: pb.Compare_CREATE, Result: op, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: v}}
}

func cmpMod(key string, op pb.Compare_CompareResult, v int64) *pb.Compare {
	return &pb.Compare{Key: []byte(key), Target: pb.Compare_MOD, Result: op, TargetUnion: &pb.Compare_ModRevision{ModRevision: v}}
}

func cmpValue(key string, op pb.Compare_CompareResult, v string) *pb.Compare {
	return &pb.Compare{Key: []byte(key), Target: pb.Compare_VALUE, Result: op, TargetUnion: &pb.Compare_Value{Value: []byte(v)}}
}

func cmpLease(key string, op pb.Compare_CompareResult, v int64) *pb.Compare {
	return &pb.Compare{Key: []byte(key), Target: pb.Compare_LEASE, Result: op, TargetUnion: &pb.Compare_Lease{Lease: v}}
}

func overRange(c *pb.Compare, end []byte) *pb.Compare {
	c.RangeEnd = end
	return c
}

func (m *member) compare(t *testing.T, compares ...*pb.Compare) bool {
	t.Helper()
	return m.txn(t, &pb.TxnRequest{Compare: compares}).Succeeded
}

func TestCompareTargets(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		k := newPrefix(t)
		create := m.put(t, k, "a").Header.Revision
		mod := m.put(t, k, "m").Header.Revision
		numbers := map[string]struct {
			make  func(string, pb.Compare_CompareResult, int64) *pb.Compare
			value int64
		}{
			"version": {cmpVersion, 2},
			"create":  {cmpCreate, create},
			"mod":     {cmpMod, mod},
			"lease":   {cmpLease, 0},
		}
		for _, op := range operators {
			for name, n := range numbers {
				for order := -1; order <= 1; order++ {
					got := m.compare(t, n.make(k, op, n.value-int64(order)))
					wantEqual(t, fmt.Sprintf("%s %v, order %d", name, op, order), got, holds(op, order))
				}
			}
			for given, order := range map[string]int{"": 1, "a": 1, "m": 0, "m\x00": -1, "n": -1} {
				wantEqual(t, fmt.Sprintf("value %v %q", op, given), m.compare(t, cmpValue(k, op, given)), holds(op, order))
			}
		}
	})
}

// A missing key has version, revisions and lease 0, but no value: not even an
// empty one, so that every comparison of its value fails.
func TestCompareMissingKey(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		k := newPrefix(t)
		m.put(t, k+"deleted", "v")
		m.del(t, &pb.DeleteRangeRequest{Key: []byte(k + "deleted")})
		for _, key := range []string{k + "never", k + "deleted"} {
			for _, op := range operators {
				for name, f := range map[string]func(string, pb.Compare_CompareResult, int64) *pb.Compare{
					"version": cmpVersion, "create": cmpCreate, "mod": cmpMod, "lease": cmpLease,
				} {
					for _, given := range []int64{-1, 0, 1} {
						got := m.compare(t, f(key, op, given))
						wantEqual(t, fmt.Sprintf("%s %v %d", name, op, given), got, holds(op, -int(given)))
					}
				}
				for _, given := range []string{"", "v"} {
					wantEqual(t, fmt.Sprintf("value %v %q", op, given), m.compare(t, cmpValue(key, op, given)), false)
				}
			}
		}
	})
}

// A comparison of a range holds when it holds for every key; of a range without
// keys, when it holds for a missing key.
func TestCompareRanges(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		p := newTopPrefix()
		base := m.revision(t)
		m.putKeys(t, p, "a", "b", "c", "b")
		end, open := prefixEnd(p), []byte{0}
		for _, c := range []struct {
			name    string
			compare *pb.Compare
			want    bool
		}{
			{"all versions above 0", overRange(cmpVersion(p, greater, 0), end), true},
			{"all versions 1", overRange(cmpVersion(p, equal, 1), end), false},
			{"versions of a part", overRange(cmpVersion(p+"a", equal, 1), []byte(p+"b")), true},
			{"created after base", overRange(cmpCreate(p, greater, base), end), true},
			{"modified by base+3", overRange(cmpMod(p, less, base+4), end), false},
			{"modified by base+4", overRange(cmpMod(p, less, base+5), end), true},
			{"values below d", overRange(cmpValue(p, less, "d"), end), true},
			{"values below c", overRange(cmpValue(p, less, "c"), end), false},
			{"values not x", overRange(cmpValue(p, notEqual, "x"), end), true},
			{"values not b", overRange(cmpValue(p, notEqual, "b"), end), false},
			{"leases 0", overRange(cmpLease(p, equal, 0), end), true},
			{"open", overRange(cmpValue(p+"b", greater, "a"), open), true},
			{"open, from the first", overRange(cmpValue(p, greater, "a"), open), false},
			{"no keys, version 0", overRange(cmpVersion(p+"x", equal, 0), end), true},
			{"no keys, version above 0", overRange(cmpVersion(p+"x", greater, 0), end), false},
			{"no keys, value", overRange(cmpValue(p+"x", notEqual, "v"), end), false},
			{"inverted, create 0", overRange(cmpCreate(p+"c", equal, 0), []byte(p+"a")), true},
			{"end is key", overRange(cmpVersion(p+"a", equal, 0), []byte(p+"a")), true},
		} {
			wantEqual(t, c.name, m.compare(t, c.compare), c.want)
		}
	})
}

func TestComparesAllHold(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		k := newPrefix(t)
		m.put(t, k, "v")
		yes, no := cmpValue(k, equal, "v"), cmpValue(k, equal, "w")
		wantEqual(t, "none", m.compare(t), true)
		wantEqual(t, "yes", m.compare(t, yes), true)
		wantEqual(t, "yes yes", m.compare(t, yes, cmpVersion(k, equal, 1)), true)
		wantEqual(t, "yes no", m.compare(t, yes, no), false)
		wantEqual(t, "no yes", m.compare(t, no, yes), false)
		wantEqual(t, "same key twice", m.compare(t, cmpValue(k, greater, "u"), cmpValue(k, less, "w")), true)
	})
}

// What a client may leave out or set wrongly: the operand (zero is compared),
// an operand of another target (likewise), an undefined target (always equal),
// an undefined operator (always holds).
func TestCompareOddities(t *testing.T) {
	onEachMember(t, func(t *testing.T, m *member) {
		k := newPrefix(t)
		m.put(t, k, "v")
		key := []byte(k)
		wantEqual(t, "no operand, version equal", m.compare(t, &pb.Compare{Key: key}), false)
		wantEqual(t, "no operand, version greater", m.compare(t, &pb.Compare{Key: key, Result: greater}), true)
		wantEqual(t, "no operand, missing key", m.compare(t, &pb.Compare{Key: []byte(k + "x")}), true)
		wantEqual(t, "no operand, value greater", m.compare(t, &pb.Compare{Key: key, Target: pb.Compare_VALUE, Result: greater}), true)
		wantEqual(t, "operand of another target",
			m.compare(t, &pb.Compare{Key: key, Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 1}}), false)
		wantEqual(t, "undefined target, equal", m.compare(t, &pb.Compare{Key: key, Target: 9}), true)
		wantEqual(t, "undefined target, greater", m.compare(t, &pb.Compare{Key: key, Target: 9, Result: greater}), false)
		wantEqual(t, "undefined operator", m.compare(t, &pb.Compare{Key: key, Result: 9}), true)
	})
}
