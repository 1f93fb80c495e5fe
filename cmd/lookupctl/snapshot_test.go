package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
)

// snapshotOf is a snapshot of a cluster in which these commands were applied.
func snapshotOf(t *testing.T, clusterID string, commands ...registry.Command) []byte {
	t.Helper()
	f, err := fsm.New(fsm.Config{
		Dir: t.TempDir(), ClusterID: func() string { return clusterID }, Logger: slog.New(slog.DiscardHandler),
		OnFatal: func(err error) { t.Errorf("fatal: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := fsm.EncodeBatch(fsm.Batch{Origin: "a-00000001", Epoch: 1, Number: 1, Commands: commands})
	if err != nil {
		t.Fatal(err)
	}
	f.ApplyBatch([]*raft.Log{{Index: 1, Term: 1, Type: raft.LogCommand, Data: data}})
	saved, err := f.Save()
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Release()
	var b bytes.Buffer
	if _, err := saved.WriteTo(&b); err != nil || int64(b.Len()) != saved.Length() {
		t.Fatalf("%d bytes, announced %d: %v", b.Len(), saved.Length(), err)
	}
	return b.Bytes()
}

func create(names ...string) (commands []registry.Command) {
	for _, name := range names {
		topic, channel, ok := strings.Cut(name, "/")
		if ok {
			commands = append(commands, registry.CreateChannel{Topic: topic, Channel: channel})
		} else {
			commands = append(commands, registry.CreateTopic{Topic: topic})
		}
	}
	return commands
}

func saveFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSnapshotSave(t *testing.T) {
	content := snapshotOf(t, "one", create("t/c")...)
	p := newFakePeer(t, map[string]any{"GET /v1/snapshot": content})
	dir := t.TempDir()
	path := filepath.Join(dir, "backup")
	code, _, talk := call(t, nil, "snapshot", "save", path, "-a", nobody(t), "-a", p.address)
	if code != 0 || !strings.Contains(talk, "Saved index 1 of cluster one") {
		t.Fatalf("exit code %d: %s", code, talk)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, want %d: %v", len(got), len(content), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if code, _, talk := call(t, nil, "snapshot", "save", path, "-a", p.address); code != exitUsage || !strings.Contains(talk, "--yes") {
		t.Errorf("over a file: exit code %d: %s", code, talk)
	}
	if code, out, _ := call(t, nil, "snapshot", "save", "-", "-a", p.address); code != 0 || out != string(content) {
		t.Errorf("to stdout: exit code %d, %d bytes", code, len(out))
	}
	// What arrives in part leaves the old file, and nothing beside it.
	cut := newFakePeer(t, map[string]any{"GET /v1/snapshot": content[:len(content)/2]})
	if code, _, _ := call(t, nil, "snapshot", "save", path, "-y", "-a", cut.address); code != exitFailed {
		t.Errorf("cut: exit code %d", code)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the old file is gone: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestSnapshotInspect(t *testing.T) {
	old := saveFile(t, snapshotOf(t, "one", create("t/c", "gone")...))
	path := saveFile(t, snapshotOf(t, "one", create("t/c", "t/d", "new")...))
	code, out, talk := call(t, nil, "snapshot", "inspect", path, "--diff", old)
	if code != 0 || !strings.HasPrefix(out, "Sound.\n") || !strings.HasSuffix(out, "+ new\n+ t / d\n- gone\n") {
		t.Errorf("exit code %d\n%s%s", code, out, talk)
	}
	if code, out, _ := call(t, nil, "snapshot", "inspect", path, "-o", "json"); code != 0 || !strings.Contains(out, `"channels":2`) || strings.Contains(out, "created") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	code, out, _ = call(t, nil, "snapshot", "inspect", path, "--diff", old, "-o", "json")
	if code != 0 || !strings.Contains(out, `"created":[{"topic":"new"},{"topic":"t","channel":"d"}]`) || !strings.Contains(out, `"deleted":[{"topic":"gone"}]`) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	code, out, _ = call(t, nil, "snapshot", "inspect", path, "--diff", path, "-o", "json")
	if code != 0 || !strings.Contains(out, `"created":[]`) || !strings.Contains(out, `"deleted":[]`) {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// TestDamagedBackupChangesNothing: B1 and B2 of docs/bad-inputs.md.
func TestDamagedBackupChangesNothing(t *testing.T) {
	good := snapshotOf(t, "one", create("t/c")...)
	flipped := func(at int) []byte {
		b := slices.Clone(good)
		b[at] ^= 1
		return b
	}
	newer := slices.Clone(good)
	newer[11] = 9
	for name, content := range map[string][]byte{
		"B1 empty": {}, "B1 cut in the header": good[:20], "B1 cut in the state": good[:len(good)/2], "B1 cut in the checksum": good[:len(good)-1],
		"B1 a byte more": append(slices.Clone(good), 0), "B1 bit in the header": flipped(30), "B1 bit in the state": flipped(len(good) / 2),
		"B1 bit in the checksum": flipped(len(good) - 1), "B1 newer format": newer,
		"B2 a zip file": []byte("PK\x03\x04" + strings.Repeat("x", 1000)),
	} {
		t.Run(name, func(t *testing.T) {
			p := newFakePeer(t, map[string]any{"GET /v1/snapshot": good})
			path := saveFile(t, content)
			for _, args := range [][]string{{"snapshot", "inspect", path}, {"snapshot", "restore", path, "-y", "--replace", "-a", p.address}} {
				if code, out, talk := call(t, nil, args...); code != exitFailed || !strings.Contains(talk, "bad snapshot") {
					t.Errorf("%v: exit code %d\n%s%s", args[:2], code, out, talk)
				}
			}
			if len(p.asked) > 0 {
				t.Errorf("the cluster was asked %v", p.asked)
			}
		})
	}
}

func TestSnapshotRestore(t *testing.T) {
	path := saveFile(t, snapshotOf(t, "one", create("a/x", "a/y", "b", "b/e#ephemeral", "temp#ephemeral", "c/z")...))
	present := snapshotOf(t, "two", create("a/x", "a/other", "more/c", "live#ephemeral")...)
	lack := "+ a / y\n+ b\n+ c\n+ c / z\n"
	for _, test := range []struct {
		name, args, out string
		body            string
	}{
		{"B3 another cluster's, first a look", "--dry-run", lack, ""},
		{"a look at all", "--dry-run --replace", lack + "- a / other\n- more\n", ""},
		{"B4 into a running cluster", "-y", "Restored: 4 changes made.\n", `{"create":[{"topic":"a","channels":["y"]},{"topic":"b","channels":null},{"topic":"c","channels":["z"]}],"delete":null}`},
		{"in its place", "-y --replace", "Restored: 6 changes made.\n", `{"create":[{"topic":"a","channels":["y"]},{"topic":"b","channels":null},{"topic":"c","channels":["z"]}],"delete":[{"topic":"a","channels":["other"]},{"topic":"more","channels":null}]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newFakePeer(t, map[string]any{"GET /v1/snapshot": present, "POST /v1/import": struct{}{}})
			code, out, talk := call(t, nil, append([]string{"snapshot", "restore", path, "-a", p.address}, strings.Fields(test.args)...)...)
			if code != 0 || out != test.out || !strings.Contains(talk, "The file is of cluster one, this is two") {
				t.Errorf("exit code %d, want %q\n%s%s", code, test.out, out, talk)
			}
			if got := strings.Join(p.bodies, ""); got != test.body {
				t.Errorf("sent %s, want %s", got, test.body)
			}
		})
	}
}

func TestRestoreSendsWhatOneRequestHolds(t *testing.T) {
	var wanted []string
	for i := range 3000 {
		wanted = append(wanted, fmt.Sprintf("topic-%04d/channel-%s", i, strings.Repeat("x", 40)))
	}
	path := saveFile(t, snapshotOf(t, "one", create(wanted...)...))
	p := newFakePeer(t, map[string]any{"GET /v1/snapshot": snapshotOf(t, "one"), "POST /v1/import": struct{}{}})
	if code, out, talk := call(t, nil, "snapshot", "restore", path, "-y", "-a", p.address); code != 0 || out != "Restored: 6000 changes made.\n" {
		t.Fatalf("exit code %d\n%s%s", code, out, talk)
	}
	sent := 0
	for _, body := range p.bodies {
		n := commandsOf(t, body)
		sent += n
		if len(body) > 64<<10 || n > cluster.MaxProposalCommands {
			t.Errorf("a request of %d bytes, %d commands", len(body), n)
		}
	}
	if sent < 6000 || len(p.bodies) > 6000/cluster.MaxProposalCommands+1 {
		t.Errorf("%d commands in %d requests", sent, len(p.bodies))
	}
}

// A channel whose topic is there costs its topic's command too.
func TestRestoreCountsAsThePeerDoes(t *testing.T) {
	var wanted, present []string
	for i := range 400 {
		present = append(present, fmt.Sprintf("t%03d", i), fmt.Sprintf("t%03d/gone", i), fmt.Sprintf("u%03d", i))
		wanted = append(wanted, fmt.Sprintf("t%03d/c", i))
	}
	path := saveFile(t, snapshotOf(t, "one", create(wanted...)...))
	p := newFakePeer(t, map[string]any{"GET /v1/snapshot": snapshotOf(t, "one", create(present...)...), "POST /v1/import": struct{}{}})
	if code, out, talk := call(t, nil, "snapshot", "restore", path, "-y", "--replace", "-a", p.address); code != 0 || out != "Restored: 1200 changes made.\n" {
		t.Fatalf("exit code %d\n%s%s", code, out, talk)
	}
	sent := 0
	for _, body := range p.bodies {
		n := commandsOf(t, body)
		if sent += n; n > cluster.MaxProposalCommands {
			t.Errorf("a request of %d commands", n)
		}
	}
	if sent != 1600 {
		t.Errorf("%d commands", sent)
	}
}

// commandsOf counts what a peer makes of the body of POST /v1/import.
func commandsOf(t *testing.T, text string) (n int) {
	t.Helper()
	var body map[string][]struct{ Channels []string }
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatal(err)
	}
	for _, topic := range body["create"] {
		n += 1 + len(topic.Channels)
	}
	for _, topic := range body["delete"] {
		n += max(1, len(topic.Channels))
	}
	return n
}

// TestRestoreCutOff: what is made is told, and the next run makes the rest.
func TestRestoreCutOff(t *testing.T) {
	t.Run("B6 the cluster goes away", func(t *testing.T) {
		path := saveFile(t, snapshotOf(t, "one", create("a", "b/c")...))
		p := newFakePeer(t, map[string]any{"GET /v1/snapshot": snapshotOf(t, "one"), "POST /v1/import": 503})
		code, _, talk := call(t, nil, "snapshot", "restore", path, "-y", "-a", p.address)
		if code != exitFailed || !strings.Contains(talk, "0 of 3 changes are made; once more makes the rest") {
			t.Errorf("exit code %d %s", code, talk)
		}
		p.answers["GET /v1/snapshot"] = snapshotOf(t, "one", create("a")...) // as far as it came
		p.answers["POST /v1/import"] = struct{}{}
		if code, out, _ := call(t, nil, "snapshot", "restore", path, "-y", "-a", p.address); code != 0 || out != "Restored: 2 changes made.\n" {
			t.Errorf("again: exit code %d %s", code, out)
		}
	})
}
