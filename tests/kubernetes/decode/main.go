// Command decode judges stored objects with upstream's own types. It reads
// lines of JSON from its input: the key and the value of the store, and the
// object as the server showed it. The value must decode as upstream's protobuf,
// be encoded by upstream to the same bytes, and be the object that was shown.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
)

type stored struct {
	Key   string          `json:"key"`
	Value []byte          `json:"value"`
	Shown json.RawMessage `json:"shown"`
}

func check(one stored) error {
	decoder := scheme.Codecs.UniversalDeserializer()
	object, kind, err := decoder.Decode(one.Value, nil, nil)
	if err != nil {
		return fmt.Errorf("the value does not decode: %w", err)
	}
	var again bytes.Buffer
	encoder := scheme.Codecs.EncoderForVersion(
		protobuf.NewSerializer(scheme.Scheme, scheme.Scheme), kind.GroupVersion())
	if err := encoder.Encode(object, &again); err != nil {
		return fmt.Errorf("it cannot be encoded again: %w", err)
	}
	if !bytes.Equal(again.Bytes(), one.Value) {
		return fmt.Errorf("upstream encodes it otherwise:\n%q\n%q", again.Bytes(), one.Value)
	}
	shown, of, err := decoder.Decode(one.Shown, nil, nil)
	if err != nil {
		return fmt.Errorf("what was shown does not decode: %w", err)
	}
	if *of != *kind {
		return fmt.Errorf("%v was shown as %v", kind, of)
	}
	// The version is the store's: it is not in the value.
	for _, each := range []runtime.Object{shown, object} {
		accessor, err := meta.Accessor(each)
		if err != nil {
			return err
		}
		accessor.SetResourceVersion("")
	}
	if !equality.Semantic.DeepEqual(shown, object) {
		return fmt.Errorf("it was shown otherwise:\n%#v\n%#v", shown, object)
	}
	return nil
}

func run() error {
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	input := json.NewDecoder(lines)
	count := 0
	for input.More() {
		var one stored
		if err := input.Decode(&one); err != nil {
			return err
		}
		if err := check(one); err != nil {
			return fmt.Errorf("%s: %w", one.Key, err)
		}
		count++
	}
	fmt.Printf("%d objects\n", count)
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
