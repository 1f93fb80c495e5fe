package registry_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/registry"
)

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		strings.Repeat("x", 64): true,
		"a":                     true, ".": true, "..": true, "-": true, "A-z_0.9": true, "a#ephemeral": true,
		"":                                     false,
		"#ephemeral":                           false,
		"a#ephemeralx":                         false,
		"a#ephemeral#ephemeral":                false,
		"*":                                    false,
		"a/b":                                  false,
		"ü":                                    false,
		"a\x00":                                false,
		"a b":                                  false,
		strings.Repeat("x", 65):                false,
		strings.Repeat("x", 54) + "#ephemeral": true,
		strings.Repeat("x", 55) + "#ephemeral": false,
	} {
		if got := registry.ValidName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestProducerInfoValidate(t *testing.T) {
	good := registry.ProducerInfo{BroadcastAddress: "h", TCPPort: 1, HTTPPort: 65535, Version: "fake-version"}
	for name, c := range map[string]struct {
		change func(*registry.ProducerInfo)
		want   error
	}{
		"good":                 {func(*registry.ProducerInfo) {}, nil},
		"no address":           {func(p *registry.ProducerInfo) { p.BroadcastAddress = "" }, registry.ErrMissingFields},
		"no TCP port":          {func(p *registry.ProducerInfo) { p.TCPPort = 0 }, registry.ErrMissingFields},
		"no HTTP port":         {func(p *registry.ProducerInfo) { p.HTTPPort = 0 }, registry.ErrMissingFields},
		"no version":           {func(p *registry.ProducerInfo) { p.Version = "" }, registry.ErrMissingFields},
		"negative port":        {func(p *registry.ProducerInfo) { p.TCPPort = -1 }, registry.ErrBadField},
		"port above 65535":     {func(p *registry.ProducerInfo) { p.HTTPPort = 65536 }, registry.ErrBadField},
		"control character":    {func(p *registry.ProducerInfo) { p.Hostname = "a\nb" }, registry.ErrBadField},
		"NUL":                  {func(p *registry.ProducerInfo) { p.BroadcastAddress = "a\x00" }, registry.ErrBadField},
		"long host name":       {func(p *registry.ProducerInfo) { p.Hostname = strings.Repeat("x", 256) }, registry.ErrBadField},
		"long version":         {func(p *registry.ProducerInfo) { p.Version = strings.Repeat("x", 65) }, registry.ErrBadField},
		"longest host name":    {func(p *registry.ProducerInfo) { p.Hostname = strings.Repeat("x", 255) }, nil},
		"markup is just bytes": {func(p *registry.ProducerInfo) { p.Hostname = "<script>" }, nil},
	} {
		p := good
		c.change(&p)
		if err := p.Validate(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProducerIsNode(t *testing.T) {
	v4 := registry.ProducerInfo{BroadcastAddress: "h", TCPPort: 4150, HTTPPort: 4151}
	v6 := registry.ProducerInfo{BroadcastAddress: "::1", TCPPort: 4150, HTTPPort: 4151}
	for _, c := range []struct {
		producer registry.ProducerInfo
		node     string
		want     bool
	}{
		{v4, "h:4151", true},
		{v4, "h:4150", false},
		{v4, "h", false},
		{v4, "", false},
		{v6, "::1:4151", true},
		{v6, "[::1]:4151", true},
		{v6, "[::1]:4150", false},
	} {
		if got := c.producer.IsNode(c.node); got != c.want {
			t.Errorf("%s %q: %v", c.producer.ID(), c.node, got)
		}
	}
	if id := v6.ID(); id != "[::1]:4150" {
		t.Error(id)
	}
}

func TestNodeIDName(t *testing.T) {
	for id, want := range map[registry.NodeID]string{"a-12345678": "a", "x-y-12345678": "x-y", "": "", "odd": "odd"} {
		if got := id.Name(); got != want {
			t.Errorf("%s: %s", id, got)
		}
	}
}

func TestSessionNewer(t *testing.T) {
	s := registry.SessionID{Node: "n", Epoch: 2, Seq: 5}
	for o, want := range map[registry.SessionID]bool{
		{Node: "n", Epoch: 1, Seq: 9}: true, {Node: "n", Epoch: 2, Seq: 4}: true,
		s: false, {Node: "n", Epoch: 2, Seq: 6}: false, {Node: "n", Epoch: 3, Seq: 1}: false,
	} {
		if got := s.Newer(o); got != want {
			t.Errorf("%s newer than %s: %v", s, o, got)
		}
	}
}

func TestEveryResultHasAMeaning(t *testing.T) {
	for r := registry.ResultUnchanged; r <= registry.ResultTermEnded; r++ {
		if err := r.Err(); (err == nil) != (r <= registry.ResultChanged) {
			t.Errorf("%d: %v", r, err)
		}
	}
	if registry.Result(200).Err() == nil {
		t.Error("a result of a newer version is no success")
	}
}
