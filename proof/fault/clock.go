package fault

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// ClockEnv names, to a lookupd that BuildWithClock built, the file that holds by
// how many seconds its wall clock is wrong.
const ClockEnv = "LOOKUPD_WALL_CLOCK"

// The sources that BuildWithClock adds to the program and to package time.
var (
	//go:embed wallclock_main.go.txt
	clockMain []byte
	//go:embed wallclock_time.go.txt
	clockTime []byte
)

// BuildWithClock builds lookupd, whose module lies at root, into the file out,
// with a wall clock that a Clock can move. The monotonic clock stays right. It
// changes the toolchain's own package time in passing, by a copy that lives as
// long as the build, and fails if that does not look as expected.
func BuildWithClock(ctx context.Context, root, out string, tags ...string) error {
	dir, err := os.MkdirTemp("", "lookupd-wallclock-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	overlay, err := clockOverlay(ctx, root, dir)
	if err != nil {
		return fmt.Errorf("build with clock: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-tags", strings.Join(tags, ","), "-o", out, "./cmd/lookupd")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build with clock: %w\n%s", err, said)
	}
	return nil
}

// clockOverlay writes the files that are to stand in for others, and the list of
// them, into dir.
func clockOverlay(ctx context.Context, root, dir string) (string, error) {
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	timeDir := filepath.Join(strings.TrimSpace(string(goroot)), "src", "time")
	source, err := os.ReadFile(filepath.Join(timeDir, "time.go"))
	if err != nil {
		return "", err
	}
	if source, err = moveNow(source); err != nil {
		return "", err
	}
	if root, err = filepath.Abs(root); err != nil {
		return "", err
	}
	replace := map[string]string{}
	for _, f := range []struct {
		stands, name string
		content      []byte
	}{
		{filepath.Join(timeDir, "time.go"), "time.go", source},
		{filepath.Join(timeDir, "wallclock.go"), "wallclock_time.go", clockTime},
		{filepath.Join(root, "cmd", "lookupd", "wallclock.go"), "wallclock_main.go", clockMain},
	} {
		path := filepath.Join(dir, f.name)
		replace[f.stands] = path
		if err := os.WriteFile(path, f.content, 0o600); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, list, 0o600)
}

// moveNow changes time.Now in the source of package time.
func moveNow(source []byte) ([]byte, error) {
	const function, reads = "func Now() Time {\n\t", "sec, nsec, mono := runtimeNow()\n"
	text := string(source)
	if strings.Count(text, function+reads) != 1 {
		return nil, fmt.Errorf("package time of this toolchain does not begin Now with %q", reads)
	}
	return []byte(strings.Replace(text, function+reads, function+reads+"\tsec += wallOffset.Load()\n", 1)), nil
}

// Clock is the wall clock of one peer that BuildWithClock built.
type Clock struct{ path string }

// NewClock returns a clock that the peer is told by a file; it is right until
// Set is called.
func NewClock(path string) Clock { return Clock{path} }

// Env is the variable that the peer needs.
func (c Clock) Env() string { return ClockEnv + "=" + c.path }

// Set makes the clock wrong by a number of seconds from now on, also after
// a restart. The peer follows within some 20 ms.
func (c Clock) Set(seconds int64) error {
	next := c.path + ".next"
	if err := os.WriteFile(next, []byte(strconv.FormatInt(seconds, 10)), 0o600); err != nil {
		return err
	}
	return os.Rename(next, c.path)
}

func needsClocks(t *Target) string {
	if len(t.Clocks) == 0 {
		return "peers that were built with a wall clock to move"
	}
	return ""
}

const hour, day = int64(3600), int64(24 * 3600)

// jumpClock makes the wall clock of one peer, or of each its own, jump to and
// fro, and sets it right again.
func jumpClock(ctx context.Context, t *Target) (evidence string, err error) {
	victims := everyPeer(t, nil, nil)
	if t.Rand.IntN(2) == 0 {
		victims = victims[:1]
	}
	defer func() {
		for _, p := range victims {
			err = errors.Join(err, t.Clocks[p.Name()].Set(0))
		}
	}()
	var seen []string
	for range 1 + t.Rand.IntN(3) {
		jumps := map[*supervisor.Peer]int64{}
		for _, p := range victims {
			jumps[p] = []int64{hour, -hour, day, -day}[t.Rand.IntN(4)]
			if err := t.Clocks[p.Name()].Set(jumps[p]); err != nil {
				return "", err
			}
		}
		for _, p := range victims {
			if err := waitClock(ctx, p, jumps[p]); err != nil {
				return "", err
			}
			seen = append(seen, fmt.Sprintf("%s %+d s", p.Name(), jumps[p]))
		}
		if err := hold(ctx, t.between(300*time.Millisecond, 3*time.Second)); err != nil {
			return "", err
		}
	}
	slices.Sort(seen)
	return "seen in the answers' Date: " + strings.Join(seen, ", "), nil
}

// warpClock makes the wall clock of each peer run at a rate of its own, as seen
// in whole seconds: backwards, not at all, or too fast. Then it is right again.
func warpClock(ctx context.Context, t *Target) (evidence string, err error) {
	const step = 100 * time.Millisecond
	victims := everyPeer(t, nil, nil)
	defer func() {
		for _, p := range victims {
			err = errors.Join(err, t.Clocks[p.Name()].Set(0))
		}
	}()
	rates, offsets := map[*supervisor.Peer]int64{}, map[*supervisor.Peer]int64{}
	for _, p := range victims {
		rates[p] = []int64{-10, 0, 2, 10}[t.Rand.IntN(4)]
	}
	began, lasts := time.Now(), t.between(6*time.Second, 10*time.Second) // beyond what waitClock tolerates
	for time.Since(began) < lasts {
		for _, p := range victims {
			offsets[p] = int64(time.Since(began).Seconds() * float64(rates[p]-1))
			if err := t.Clocks[p.Name()].Set(offsets[p]); err != nil {
				return "", err
			}
		}
		if err := hold(ctx, step); err != nil {
			return "", err
		}
	}
	var seen []string
	for _, p := range victims {
		if err := waitClock(ctx, p, offsets[p]); err != nil {
			return "", err
		}
		seen = append(seen, fmt.Sprintf("%s at %d times the rate for %v, then off by %+d s", p.Name(), rates[p], lasts.Round(time.Millisecond), offsets[p]))
	}
	return strings.Join(seen, ", "), nil
}

// waitClock waits until a peer's answers show that its clock is wrong by so many
// seconds. Another fault may have stopped it meanwhile.
func waitClock(ctx context.Context, p *supervisor.Peer, want int64) error {
	const tolerance = 3 // Date has whole seconds, and an answer may take 2
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	return supervisor.Poll(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // it may be stopped
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL("/ping"), nil)
		if err != nil {
			return err
		}
		request.Close = true
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		response.Body.Close()
		date, err := http.ParseTime(response.Header.Get("Date"))
		if err != nil {
			return err
		}
		if off := int64(time.Until(date).Seconds()); off < want-tolerance || off > want+tolerance {
			return fmt.Errorf("%w: the clock of %s is off by %d s, want %d s", ErrNoEvidence, p.Name(), off, want)
		}
		return nil
	})
}
