package cluster_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// TestPeersFile: raft's own way to recover leads to ours. A start refuses and
// changes nothing; Recover does what the file asks for, and takes it away.
func TestPeersFile(t *testing.T) {
	p := startPeer(t, "a", nil)
	p.waitReady()
	p.propose(registry.CreateTopic{Topic: "kept"})
	id := p.ID()
	p.stop()
	file := filepath.Join(p.path, "raft", "peers.json")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	alone := fmt.Sprintf(`[{"id": %q, "address": "10.0.0.1:4162"}]`, id)
	write(alone)
	dir, err := store.OpenDir(p.path)
	if err != nil {
		t.Fatal(err)
	}
	cfg := p.cfg
	cfg.Dir = dir
	if err := cluster.New(cfg).Open(); !errors.Is(err, cluster.ErrPeersFile) || !errors.Is(err, store.ErrRefused) {
		t.Errorf("a start: %v", err)
	}
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct{ text, want string }{
		"others too":    {fmt.Sprintf(`[{"id": %q, "address": "a"}, {"id": "b-00000002", "address": "b"}]`, id), "one peer begins alone"},
		"another alone": {`[{"id": "b-00000002", "address": "b"}]`, "one peer begins alone"},
		"no voter":      {fmt.Sprintf(`[{"id": %q, "address": "a", "non_voter": true}]`, id), "need at least one voter"},
		"nobody":        {`[]`, "need at least one voter"},
		"addresses":     {`["10.0.0.1:4162"]`, "cannot unmarshal"},
		"empty":         {``, "EOF"},
		"garbage":       {"\x00\xff", "invalid character"},
		"long":          {strings.Repeat(" ", 65<<10) + alone, "65536 bytes"},
	} {
		write(test.text)
		if err := cluster.CheckPeersFile(p.path, id); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	write(alone)
	if err := cluster.CheckPeersFile(p.path, id); err != nil {
		t.Error(err)
	}
	if _, err := cluster.Recover(p.path, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if err := cluster.CheckPeersFile(p.path, id); err != nil {
		t.Errorf("without a file: %v", err)
	}
	p.start()
	p.waitReady()
	if topics, _ := p.topics(); len(topics) != 1 || topics[0] != "kept" {
		t.Errorf("topics %v", topics)
	}
}
