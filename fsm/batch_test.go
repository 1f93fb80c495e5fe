package fsm_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/fsm/fsmpb"
	"github.com/lookupd/lookupd/registry"
)

// everyCommand has one command of each kind, all fields set, in the order of the kinds.
func everyCommand() fsm.Batch {
	id, p := registry.SessionID{Node: nodeA, Epoch: 2, Seq: 3}, info("p1")
	p.TopologyZone, p.TopologyRegion = "zone", "region"
	return fsm.Batch{Origin: nodeA, Epoch: 2, Number: 7, Commands: []registry.Command{
		registry.OpenSession{Session: id, Producer: p},
		registry.CloseSession{Session: id, Producer: p.ID()},
		registry.SuspendSession{Session: id, Producer: p.ID()},
		registry.ResumeSession{Session: id, Producer: p.ID()},
		registry.Register{Session: id, Producer: p.ID(), Topic: "t", Channel: "c"},
		registry.Unregister{Session: id, Producer: p.ID(), Topic: "t", Channel: "c"},
		registry.CreateTopic{Topic: "t"},
		registry.DeleteTopic{Topic: "t"},
		registry.CreateChannel{Topic: "t", Channel: "c"},
		registry.DeleteChannel{Topic: "t", Channel: "c"},
		registry.Tombstone{Topic: "t", Node: "p1:4151\xff"}, // as the client wrote it
		registry.EndTombstone{Topic: "t", Producer: p.ID(), SetAt: 9},
		registry.Noop{},
		registry.EndOrphan{Session: id, Producer: p.ID(), Term: 4},
	}}
}

func TestBatchRoundTrip(t *testing.T) {
	for name, b := range map[string]fsm.Batch{
		"every command": everyCommand(),
		"no command":    {Origin: nodeA, Epoch: 1, Number: 1, Commands: []registry.Command{}},
		"leadership":    {Commands: []registry.Command{registry.Noop{}}},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := fsm.EncodeBatch(b)
			if err != nil {
				t.Fatal(err)
			}
			got, err := fsm.DecodeBatch(data)
			if diff := cmp.Diff(b, got); diff != "" || err != nil {
				t.Errorf("error %v, (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestKindsHaveTheirNumbers: they are in logs, so they never change.
func TestKindsHaveTheirNumbers(t *testing.T) {
	kinds := new(fsmpb.Command).ProtoReflect().Descriptor().Fields()
	if kinds.Len() != fsm.CommandFormat || kinds.Len() != len(everyCommand().Commands) {
		t.Fatalf("%d kinds", kinds.Len())
	}
	for i, name := range []string{
		"open_session", "close_session", "suspend_session", "resume_session", "register", "unregister",
		"create_topic", "delete_topic", "create_channel", "delete_channel", "tombstone", "end_tombstone", "noop",
		"end_orphan",
	} {
		if string(kinds.Get(i).Name()) != name || int(kinds.Get(i).Number()) != i+1 {
			t.Errorf("kind %d is %s", kinds.Get(i).Number(), kinds.Get(i).Name())
		}
	}
}

func TestEncodeRefusesWhatCannotBeApplied(t *testing.T) {
	id, p := sid(nodeA, 1), info("p1")
	badPort, zeroByte, notUTF8 := p, p, p
	badPort.TCPPort, zeroByte.BroadcastAddress, notUTF8.Hostname = 70000, "p\x00", "\xff"
	for name, b := range map[string]fsm.Batch{
		"no origin":          {Commands: []registry.Command{registry.CreateTopic{Topic: "t"}}},
		"long origin":        {Origin: registry.NodeID(strings.Repeat("o", 2000)), Commands: []registry.Command{registry.Noop{}}},
		"nil command":        batch(nodeA, 1, nil),
		"session's node":     batch(nodeA, 1, registry.CloseSession{Producer: p.ID()}),
		"no producer":        batch(nodeA, 1, registry.CloseSession{Session: id}),
		"long producer":      batch(nodeA, 1, registry.CloseSession{Session: id, Producer: registry.ProducerID(strings.Repeat("p", 2000))}),
		"port":               batch(nodeA, 1, registry.OpenSession{Session: id, Producer: badPort}),
		"zero byte":          batch(nodeA, 1, registry.OpenSession{Session: id, Producer: zeroByte}),
		"not UTF-8":          batch(nodeA, 1, registry.OpenSession{Session: id, Producer: notUTF8}),
		"register topic":     batch(nodeA, 1, register(nodeA, 1, "p1", "", "c")),
		"register channel":   batch(nodeA, 1, register(nodeA, 1, "p1", "t", "c/d")),
		"create topic":       batch(nodeA, 1, registry.CreateTopic{Topic: "*"}),
		"create channel":     batch(nodeA, 1, registry.CreateChannel{Topic: "t"}),
		"delete channel":     batch(nodeA, 1, registry.DeleteChannel{Topic: "t", Channel: "*"}),
		"tombstone":          batch(nodeA, 1, registry.Tombstone{Topic: "*", Node: "p1:4151"}),
		"tombstone's end":    batch(nodeA, 1, registry.EndTombstone{Topic: "t"}),
		"good one, bad one":  batch(nodeA, 1, registry.CreateTopic{Topic: "t"}, registry.DeleteTopic{}),
		"suspend, no node":   batch(nodeA, 1, registry.SuspendSession{Producer: p.ID()}),
		"resume, no node":    batch(nodeA, 1, registry.ResumeSession{Producer: p.ID()}),
		"unregister channel": batch(nodeA, 1, registry.Unregister{Session: id, Producer: p.ID(), Topic: "t", Channel: "*"}),
	} {
		if _, err := fsm.EncodeBatch(b); !errors.Is(err, fsm.ErrBadBatch) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestDecodeRefusesFieldsOfNewerVersions(t *testing.T) {
	data, err := fsm.EncodeBatch(everyCommand())
	if err != nil {
		t.Fatal(err)
	}
	for kind := byte(1); kind <= fsm.CommandFormat; kind++ {
		// {command: {kind: {15: 1}}}
		newer := []byte{0x22, 4, kind<<3 | 2, 2, 0x78, 1}
		if _, err := fsm.DecodeBatch(slices.Concat(data, newer)); !errors.Is(err, fsm.ErrUnknownCommand) {
			t.Errorf("kind %d: error %v", kind, err)
		}
	}
	for name, newer := range map[string][]byte{
		"batch":    {0x78, 1},
		"command":  {0x22, 2, 0x78, 1},
		"session":  {0x22, 6, 5<<3 | 2, 4, 0x0a, 2, 0x78, 1},
		"producer": {0x22, 6, 1<<3 | 2, 4, 0x12, 2, 0x78, 1},
	} {
		if _, err := fsm.DecodeBatch(slices.Concat(data, newer)); !errors.Is(err, fsm.ErrUnknownCommand) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := fsm.DecodeBatch([]byte{0x22, 0}); !errors.Is(err, fsm.ErrBadBatch) {
		t.Errorf("command without a kind: %v", err)
	}
}
