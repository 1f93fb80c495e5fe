// Package lookupd_test holds what is asserted about the repository as a whole.
package lookupd_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/lookupd/lookupd/"

// arrows lists, for each folder at the top, the folders of this module that it
// may import. Imports go one way: cmd -> tcpproto, httpapi -> session ->
// cluster -> fsm -> store -> registry, cluster -> peer.
var arrows = map[string][]string{
	"registry":   {},
	"deadline":   {},
	"logring":    {},
	"seeded":     {},
	"witness":    {},
	"secrets":    {},
	"socket":     {},
	"store":      {"registry", "seeded"},
	"fsm":        {"store", "registry", "witness", "seeded"},
	"peer":       {"registry", "seeded", "secrets", "socket"},
	"cluster":    {"fsm", "store", "registry", "peer", "seeded", "secrets"},
	"session":    {"cluster", "fsm", "store", "registry", "seeded", "deadline"},
	"tcpproto":   {"session", "cluster", "fsm", "store", "registry", "witness", "socket"},
	"httpapi":    {"session", "cluster", "fsm", "store", "registry", "deadline", "logring", "socket"},
	"supervisor": {},
	"cmd": {
		"tcpproto", "httpapi", "session", "cluster", "fsm", "store", "registry", "peer", "supervisor",
		"witness", "seeded", "secrets", "logring",
	},
}

// standardOnly lists the folders that import the standard library alone.
var standardOnly = []string{"deadline", "logring", "registry", "secrets", "seeded", "socket", "supervisor", "witness"}

// forbidden lists imports from outside that a folder must not have.
var forbidden = map[string][]string{
	"tcpproto": {"github.com/hashicorp/raft", "go.etcd.io/bbolt"},
	"httpapi":  {"github.com/hashicorp/raft", "go.etcd.io/bbolt"},
	"session":  {"github.com/hashicorp/raft", "go.etcd.io/bbolt"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func TestImports(t *testing.T) {
	packages := listPackages(t)
	if len(packages) < len(arrows) {
		t.Fatalf("go list found %d packages only", len(packages))
	}
	for _, p := range packages {
		path, ok := strings.CutPrefix(p.ImportPath, module)
		if !ok {
			continue // this package
		}
		folder, _, _ := strings.Cut(path, "/")
		allowed, known := arrows[folder]
		if !known {
			t.Errorf("%s: folder %q has no arrows: add it to the table, with what it may import", p.ImportPath, folder)
		}
		for _, imported := range p.Imports {
			if inside, ok := strings.CutPrefix(imported, module); ok {
				to, _, _ := strings.Cut(inside, "/")
				if to != folder && !slices.Contains(allowed, to) {
					t.Errorf("%s imports %s: %s may import %v", p.ImportPath, imported, folder, allowed)
				}
			} else if slices.Contains(standardOnly, folder) && strings.Contains(imported, ".") {
				t.Errorf("%s imports %s: %s needs the standard library only", p.ImportPath, imported, folder)
			}
			for _, never := range forbidden[folder] {
				if imported == never || strings.HasPrefix(imported, never+"/") {
					t.Errorf("%s imports %s", p.ImportPath, imported)
				}
			}
		}
	}
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-tags", "hashicorpmetrics", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
