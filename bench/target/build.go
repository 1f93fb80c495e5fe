package target

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Binaries are the programs that are measured.
type Binaries struct{ Lookupd, NSQLookupd, Etcd string }

// Build builds them from the repository at root into dir. A lookupd that
// already has a path is taken as it is.
func Build(ctx context.Context, root, dir string, b Binaries) (Binaries, error) {
	module := filepath.Join(root, "bench")
	for _, p := range []struct {
		path              *string
		name, from, pkg   string
		tags, environment string
	}{
		{&b.Lookupd, "lookupd", root, "./cmd/lookupd", "hashicorpmetrics", "CGO_ENABLED=0"},
		{&b.NSQLookupd, "nsqlookupd", module, "github.com/nsqio/nsq/apps/nsqlookupd", "", "CGO_ENABLED=0"},
		{&b.Etcd, "etcd", module, "go.etcd.io/etcd/server/v3", "", "CGO_ENABLED=0"},
	} {
		if *p.path != "" {
			continue
		}
		*p.path = filepath.Join(dir, p.name)
		cmd := exec.CommandContext(ctx, "go", "build", "-tags", p.tags, "-o", *p.path, p.pkg)
		cmd.Dir = p.from
		cmd.Env = append(os.Environ(), p.environment)
		if out, err := cmd.CombinedOutput(); err != nil {
			return b, fmt.Errorf("build %s: %w\n%s", p.name, err, out)
		}
	}
	return b, nil
}

// ModuleVersion returns the version of a module that a binary was built with.
func ModuleVersion(binary, module string) string {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return "unknown"
	}
	for _, d := range append(info.Deps, &info.Main) {
		if d.Path == module {
			return d.Version
		}
	}
	return "unknown"
}

// GoVersion returns the Go version that a binary was built with.
func GoVersion(binary string) string {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return "unknown"
	}
	return strings.TrimPrefix(info.GoVersion, "go")
}
