package tcpproto_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lookupd/lookupd/session"
	"github.com/lookupd/lookupd/tcpproto"
)

func TestCommandsAndErrorsAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := &sessions{change: func(words ...string) error {
		if words[1] == "late/" {
			return session.ErrUnavailable
		}
		return nil
	}}
	server := tcpproto.New(tcpproto.Config{
		Address: "127.0.0.1:0", HTTPPort: func() int { return 4161 }, Sessions: s, Metrics: tcpproto.NewMetrics(reg),
	})
	if err := server.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	c := identified(t, server)
	for _, line := range []string{"PING", "REGISTER t", "REGISTER late", "UNREGISTER t", "PING", "NONSENSE"} {
		c.send(line + "\n")
		if _, err := c.frame(); err != nil {
			t.Fatal(line, err)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			n := metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
			if n > 0 {
				got[f.GetName()+" "+metric.GetLabel()[0].GetValue()] = n
			}
		}
	}
	want := map[string]float64{
		"lookupd_tcp_request_duration_seconds PING": 2, "lookupd_tcp_request_duration_seconds IDENTIFY": 1,
		"lookupd_tcp_request_duration_seconds REGISTER": 2, "lookupd_tcp_request_duration_seconds UNREGISTER": 1,
		"lookupd_tcp_errors_total E_UNAVAILABLE": 1, "lookupd_tcp_errors_total E_INVALID": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
