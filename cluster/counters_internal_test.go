package cluster

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lookupd/lookupd/registry"
)

func TestEveryKindHasAName(t *testing.T) {
	all := []registry.Command{
		registry.OpenSession{},
		registry.CloseSession{},
		registry.EndOrphan{},
		registry.SuspendSession{},
		registry.ResumeSession{},
		registry.Register{},
		registry.Unregister{},
		registry.CreateTopic{},
		registry.DeleteTopic{},
		registry.CreateChannel{},
		registry.DeleteChannel{},
		registry.Tombstone{},
		registry.EndTombstone{},
		registry.Noop{},
	}
	for i, c := range all {
		words := regexp.MustCompile(`[A-Z][a-z]*`).FindAllString(reflect.TypeOf(c).Name(), -1)
		if got, want := kindOf(c), strings.ToLower(strings.Join(words, "_")); got != kind(i+1) || got.String() != want {
			t.Errorf("%T is %d, %s, not %s", c, got, got, want)
		}
	}
	if len(all) != int(kinds)-1 {
		t.Errorf("%d kinds, %d commands", kinds, len(all))
	}
	if got := kindOf(nil).String(); got != "other" {
		t.Error(got)
	}
}

func TestCommandsAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	create, deletion := registry.CreateTopic{Topic: "t"}, registry.DeleteChannel{Topic: "t", Channel: "c"}
	m.batchDone([]registry.Command{create, create, deletion},
		[]registry.Result{registry.ResultChanged, registry.ResultUnchanged, registry.ResultChannelNotFound}, time.Millisecond)
	m.batchDone([]registry.Command{create}, nil, time.Millisecond)
	m.batchStopped([]registry.Command{deletion, deletion})
	m.batchGivenBack()
	m.commandsRefused([]registry.Command{create})
	want := map[string]float64{
		"lookupd_commands_total create_topic committed":     1,
		"lookupd_commands_total create_topic unchanged":     1,
		"lookupd_commands_total create_topic refused":       1,
		"lookupd_commands_total create_topic unavailable":   1,
		"lookupd_commands_total delete_channel refused":     1,
		"lookupd_commands_total delete_channel unavailable": 2,
		"lookupd_batches_total committed":                   1,
		"lookupd_batches_total stopped":                     2,
		"lookupd_batches_total given_back":                  1,
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "lookupd_commands_total" && f.GetName() != "lookupd_batches_total" {
			continue
		}
		for _, metric := range f.GetMetric() {
			name := f.GetName()
			for _, label := range metric.GetLabel() {
				name = fmt.Sprintf("%s %s", name, label.GetValue())
			}
			if n := metric.GetCounter().GetValue(); n > 0 {
				got[name] = n
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
