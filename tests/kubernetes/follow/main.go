// Command follow keeps client-go's informer on the config maps of a namespace
// until its cache shows what it is told to expect, and reports what it saw:
// handlers called, versions that came twice or went back, counters of objects
// that jumped over a change, and how often it had to list again.
//
//	follow KUBECONFIG NAMESPACE
//
// It prints "synced" once its first list is there. Then it reads one line from
// its input, the expected objects as JSON {"name": "counter", ...}, waits for
// its cache to equal them, and prints a report as one line of JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// Report is what the follower saw.
type Report struct {
	Objects  int `json:"objects"`
	Events   int `json:"events"`
	Lists    int `json:"lists"`
	Watches  int `json:"watches"`
	Repeated int `json:"repeated"`
	Jumped   int `json:"jumped"`
}

type follower struct {
	mutex   sync.Mutex
	version map[string]uint64
	counter map[string]int
	report  Report
}

func counter(object *core.ConfigMap) int {
	number, err := strconv.Atoi(object.Data["n"])
	if err != nil {
		panic(fmt.Sprintf("%s: no counter: %v", object.Name, err))
	}
	return number
}

func (f *follower) seen(object *core.ConfigMap, deleted bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.report.Events++
	version, err := strconv.ParseUint(object.ResourceVersion, 10, 64)
	if err != nil {
		panic(err)
	}
	if before, known := f.version[object.Name]; known && version <= before {
		f.report.Repeated++
	}
	f.version[object.Name] = version
	number := counter(object)
	// A deletion shows the object as it was; every other change counts one.
	before, known := f.counter[object.Name]
	switch {
	case deleted:
		if known && number != before {
			f.report.Jumped++
		}
	case known && number != before+1:
		f.report.Jumped++
	}
	f.counter[object.Name] = number
}

func run(kubeconfig, namespace string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	f := &follower{version: map[string]uint64{}, counter: map[string]int{}}
	ctx := context.Background()
	count := func(number *int) {
		f.mutex.Lock()
		*number++
		f.mutex.Unlock()
	}
	maps := client.CoreV1().ConfigMaps(namespace)
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options meta.ListOptions) (runtime.Object, error) {
			count(&f.report.Lists)
			return maps.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options meta.ListOptions) (watch.Interface, error) {
			if options.SendInitialEvents != nil && *options.SendInitialEvents {
				count(&f.report.Lists)
			} else {
				count(&f.report.Watches)
			}
			return maps.Watch(ctx, options)
		},
	}
	informer := cache.NewSharedIndexInformer(
		cache.ToListWatcherWithWatchListSemantics(source, client), &core.ConfigMap{}, 0, cache.Indexers{})
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { f.seen(object.(*core.ConfigMap), false) },
		UpdateFunc: func(before, object any) {
			// After a new list what is as it was comes again, by design.
			if before.(*core.ConfigMap).ResourceVersion != object.(*core.ConfigMap).ResourceVersion {
				f.seen(object.(*core.ConfigMap), false)
			}
		},
		DeleteFunc: func(object any) {
			// Only known to be gone, after a new list.
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				f.mutex.Lock()
				delete(f.counter, gone.Obj.(*core.ConfigMap).Name)
				f.report.Events++
				f.mutex.Unlock()
				return
			}
			f.seen(object.(*core.ConfigMap), true)
		},
	})
	if err != nil {
		return err
	}
	go informer.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return fmt.Errorf("the cache was not filled")
	}
	fmt.Println("synced")
	var expected map[string]string
	if err := json.NewDecoder(os.Stdin).Decode(&expected); err != nil {
		return err
	}
	difference := ""
	for until := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if difference = differs(informer.GetStore(), expected); difference == "" {
			break
		}
		if time.Now().After(until) {
			return fmt.Errorf("the cache is not what the store has: %s", difference)
		}
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.report.Objects = len(expected)
	return json.NewEncoder(os.Stdout).Encode(f.report)
}

func differs(store cache.Store, expected map[string]string) string {
	objects := store.List()
	if len(objects) != len(expected) {
		return fmt.Sprintf("%d objects for %d", len(objects), len(expected))
	}
	for _, each := range objects {
		object := each.(*core.ConfigMap)
		want, known := expected[object.Name]
		if got := object.ResourceVersion + "/" + object.Data["n"]; !known || got != want {
			return fmt.Sprintf("%s is at %s, expected %q", object.Name, got, want)
		}
	}
	return ""
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: follow KUBECONFIG NAMESPACE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
