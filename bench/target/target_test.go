package target

import (
	"testing"
	"time"
)

func TestMetricValue(t *testing.T) {
	const text = "# HELP lookupd_x Of x.\nlookupd_x_total 7\nlookupd_x{a=\"1 2\"} 3\nlookupd_x{a=\"3\"} 1.5e+06\nlookupd_y NaNN\n"
	if got, err := metricValue(text, "lookupd_x"); err != nil || got != 1_500_003 {
		t.Errorf("%v %v, want the sum over labels, without the longer name", got, err)
	}
	for _, name := range []string{"lookupd", "lookupd_y", "lookupd_z"} {
		if got, err := metricValue(text, name); err == nil {
			t.Errorf("%s: %v, want an error", name, got)
		}
	}
}

func TestUsageOf(t *testing.T) {
	const stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16\n"
	if got, err := usageOf(stat); err != nil || got != 2*time.Second {
		t.Errorf("%v %v, want 2s", got, err)
	}
	for _, bad := range []string{"", "42 (a) S 1 2", "42 (a) S 1 2 3 4 5 6 7 8 9 10 x 50"} {
		if got, err := usageOf(bad); err == nil {
			t.Errorf("%q: %v, want an error", bad, got)
		}
	}
}

func TestStatusBytes(t *testing.T) {
	const status = "Name:\tlookupd\nVmRSS:\t  2048 kB\nRssAnon:\t1024 kB\n"
	if got, err := statusBytes(status, "RssAnon"); err != nil || got != 1<<20 {
		t.Errorf("%v %v, want 1 MiB", got, err)
	}
	if got, err := statusBytes(status, "VmSwap"); err == nil {
		t.Errorf("%v, want an error", got)
	}
}
