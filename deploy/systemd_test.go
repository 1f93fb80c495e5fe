package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// daemonFlags are those that `lookupd -help` lists.
func daemonFlags(t *testing.T) []string {
	t.Helper()
	out, err := run(t, "", filepath.Join(bin, "lookupd"), "-help")
	if err != nil {
		t.Fatal(err, out)
	}
	var flags []string
	for _, m := range regexp.MustCompile(`(?m)^  -([a-z][a-z-]*)`).FindAllStringSubmatch(out, -1) {
		flags = append(flags, m[1])
	}
	if len(flags) < 30 {
		t.Fatalf("lookupd -help lists %d flags: %s", len(flags), out)
	}
	return flags
}

// checkVariables wants a flag for each variable that a text sets.
func checkVariables(t *testing.T, where, text string) {
	t.Helper()
	flags := daemonFlags(t)
	for _, m := range regexp.MustCompile(`LOOKUPD_([A-Z_]+)\b`).FindAllStringSubmatch(text, -1) {
		if name := strings.ToLower(strings.ReplaceAll(m[1], "_", "-")); !slices.Contains(flags, name) {
			t.Errorf("%s: %s belongs to no flag", where, m[0])
		}
	}
}

func TestUnit(t *testing.T) {
	unit := read(t, "systemd/lookupd.service")
	for _, line := range []string{
		"Type=notify", "DynamicUser=yes", "StateDirectory=lookupd", "Environment=LOOKUPD_DATA_PATH=/var/lib/lookupd",
		"EnvironmentFile=-/etc/default/lookupd", "RestartPreventExitStatus=2 3 4", "LimitNOFILE=65536", "ProtectSystem=strict",
		"NoNewPrivileges=yes", "CapabilityBoundingSet=", "MemoryDenyWriteExecute=yes",
	} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("the unit lacks %s", line)
		}
	}
	checkVariables(t, "lookupd.service", unit)
	checkVariables(t, "lookupd.default", read(t, "systemd/lookupd.default"))
}

func TestSystemdTakesTheUnit(t *testing.T) {
	analyze := tool(t, "systemd-analyze")
	// verify wants the program to be there.
	unit := strings.Replace(read(t, "systemd/lookupd.service"), "ExecStart=/usr/bin/lookupd", "ExecStart="+filepath.Join(bin, "lookupd"), 1)
	path := filepath.Join(t.TempDir(), "lookupd.service")
	if err := os.WriteFile(path, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, "", analyze, "verify", path); err != nil || out != "" {
		t.Errorf("verify: %v\n%s", err, out)
	}
	// Tenths of what systemd calls the exposure; below 2.0 is its best word.
	if out, err := run(t, "", analyze, "security", "--offline=true", "--no-pager", "--threshold=19", path); err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
}
