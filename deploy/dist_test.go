package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// What the Debian package is made of is there; dist/ itself is made by `make dist`.
func TestPackageParts(t *testing.T) {
	var parts struct {
		Contents []struct {
			Src, Dst, Type string
		}
		Scripts map[string]string
	}
	if err := yaml.Unmarshal([]byte(read(t, "deb/nfpm.yaml")), &parts); err != nil {
		t.Fatal(err)
	}
	conffiles := 0
	for _, c := range parts.Contents {
		if c.Type == "config|noreplace" {
			conffiles++
		}
		if !strings.HasPrefix(c.Src, "dist/") {
			if _, err := os.Stat(filepath.Join("..", c.Src)); err != nil {
				t.Error(err)
			}
		}
	}
	if conffiles != 1 || len(parts.Scripts) != 3 {
		t.Errorf("%d conffiles, %d scripts", conffiles, len(parts.Scripts))
	}
	for _, script := range parts.Scripts {
		if out, err := run(t, "..", "sh", "-n", script); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
	// The unit runs what the package installs, and reads its conffile.
	unit := read(t, "systemd/lookupd.service")
	for _, m := range regexp.MustCompile(`(?m)^(?:ExecStart=|EnvironmentFile=-)(\S+)`).FindAllStringSubmatch(unit, -1) {
		found := false
		for _, c := range parts.Contents {
			found = found || c.Dst == m[1]
		}
		if !found {
			t.Errorf("the package has no %s", m[1])
		}
	}
}
