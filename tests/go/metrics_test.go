package conformance

import (
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// namesOfEtcd are etcd's own names, whose types and ends are not those that
// Prometheus recommends. Dashboards know them so.
var namesOfEtcd = map[string]bool{
	"etcd_debugging_mvcc_keys_total":        true,
	"etcd_disk_wal_write_bytes_total":       true,
	"etcd_server_health_failures":           true,
	"etcd_server_health_success":            true,
	"etcd_server_proposals_applied_total":   true,
	"etcd_server_proposals_committed_total": true,
}

// What `promtool check metrics` does.
func TestMetricsAreWellFormed(t *testing.T) {
	for _, m := range members {
		response, err := http.Get("http://" + m.endpoint + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		problems, err := promlint.New(response.Body).Lint()
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range problems {
			if !namesOfEtcd[problem.Metric] {
				t.Errorf("%s: %s: %s", m.endpoint, problem.Metric, problem.Text)
			}
		}
	}
}
