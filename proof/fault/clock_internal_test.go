package fault

import (
	"strings"
	"testing"
)

func TestMoveNow(t *testing.T) {
	const right = "package time\n\nfunc Now() Time {\n\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {\n"
	moved, err := moveNow([]byte(right))
	if err != nil || strings.Count(string(moved), "runtimeNow()\n\tsec += wallOffset.Load()\n") != 1 {
		t.Errorf("moved to %q %v", moved, err)
	}
	for name, source := range map[string]string{
		"another toolchain": strings.ReplaceAll(right, "runtimeNow", "now"),
		"twice":             right + right,
		"elsewhere":         strings.ReplaceAll(right, "func Now", "func Later"),
	} {
		if moved, err := moveNow([]byte(source)); err == nil {
			t.Errorf("%s: moved to %q", name, moved)
		}
	}
}
