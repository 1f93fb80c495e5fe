package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lookupd/lookupd/httpapi"
)

// syncBuffer takes a log while a test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// put sends PUT and returns the answer.
func put(t *testing.T, url string) (body string, status int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), answer.StatusCode
}

// TestRunningProcess asks a whole peer for its settings, its log and its bundle,
// and changes its log level.
func TestRunningProcess(t *testing.T) {
	const token = "a-token-that-nobody-may-see"
	dir := t.TempDir()
	tokenFile, config := filepath.Join(dir, "token"), filepath.Join(dir, "lookupd.toml")
	for path, text := range map[string]string{tokenFile: token, config: "tombstone_lifetime = 1500\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := loopbackOptions(t, dir+"/data", "-config="+config, "-admin-token-file="+tokenFile, "-log-level=WARN")
	var logged syncBuffer
	d := newDaemon(o, newJournal(&logged, o), func(err error) { t.Errorf("fatal: %v", err) })
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	base := "http://" + d.http.Addr().String()

	origins := func() map[string]string {
		body, status := get(t, base+"/v1/config")
		var c httpapi.Settings
		if err := json.Unmarshal([]byte(body), &c); err != nil || status != http.StatusOK || c.SeenBy != "solo" {
			t.Fatal(status, err, body)
		}
		found := map[string]string{}
		for _, s := range c.Settings {
			found[s.Name] = s.Value + ", " + s.Origin
		}
		return found
	}
	found := origins()
	for name, want := range map[string]string{
		"node-name": "solo, flag", "tombstone-lifetime": "1.5s, file " + config, "on-no-quorum": "error, default",
		"admin-token-file": tokenFile + ", flag", "log-level": "WARN, flag", "join": ", default", "tcp-max-connections": "10000, default",
	} {
		if found[name] != want {
			t.Errorf("%s: %q, want %q", name, found[name], want)
		}
	}

	if body, status := put(t, base+"/v1/log-level?level=debug"); status != http.StatusOK || !strings.Contains(body, `{"level":"debug","before":"warn"}`) {
		t.Fatal(status, body)
	}
	if got := origins()["log-level"]; got != "debug, PUT /v1/log-level" {
		t.Error(got)
	}
	// The libraries' lines obey too: memberlist says something each time somebody
	// connects, raft when its leadership is asked for.
	d.log.With("component", "raft").Debug("seen from now on")
	if body, status := put(t, base+"/v1/log-level?level=error"); status != http.StatusOK {
		t.Fatal(status, body)
	}
	d.log.With("component", "raft").Warn("not seen any more")
	if body, status := put(t, base+"/v1/log-level?level=chatty"); status != http.StatusBadRequest {
		t.Error(status, body)
	}
	for line, want := range map[string]bool{
		"from=warn to=debug by=\"network 127.0.0.1:": true, "from=debug to=error by=\"network 127.0.0.1:": true, "seen from now on": true, "not seen any more": false,
		"uri=\"/v1/log-level?level=debug\"": true,
	} {
		if strings.Contains(logged.String(), line) != want {
			t.Errorf("%q in the log: %t, want %t\n%s", line, !want, want, logged.String())
		}
	}
	if body, _ := get(t, base+"/v1/logs?lines=10000"); body != logged.String() {
		t.Errorf("the kept lines are not those that were written: %s", body)
	}
	bundle, status := get(t, base+"/v1/bundle")
	if status != http.StatusOK || len(bundle) < 1000 || strings.Contains(bundle, token) {
		t.Error(status, len(bundle))
	}
}

// TestLibrariesFollowTheLevel: a logger that raft and memberlist were given long
// before obeys the level of now.
func TestLibrariesFollowTheLevel(t *testing.T) {
	var logged syncBuffer
	o := loopbackOptions(t, t.TempDir()+"/data")
	d := newDaemon(o, newJournal(&logged, o), func(err error) { t.Errorf("fatal: %v", err) })
	if _, err := d.SetLogLevel("debug", "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.SetLogLevel("error", "test"); err != nil {
		t.Fatal(err)
	}
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	}()
	quiet := logged.String()
	if _, err := d.SetLogLevel("debug", "test"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if strings.Contains(logged.String(), "component=raft") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("raft says nothing at debug:\n%s", logged.String())
		}
	}
	if strings.Contains(quiet, "component=") {
		t.Errorf("the libraries spoke at error: %s", fmt.Sprintf("%.2000s", quiet))
	}
}

func TestLogFormats(t *testing.T) {
	for format, want := range map[string]string{
		"nsq":  "[lookupd] 20",
		"text": `level=INFO msg="session opened" producer=n1:4150` + "\n",
		"json": `"level":"INFO","msg":"session opened","producer":"n1:4150"}` + "\n",
	} {
		var logged bytes.Buffer
		j := newJournal(&logged, loopbackOptions(t, t.TempDir()+"/data", "-log-format="+format, "-log-level=info"))
		j.Debug("not this")
		j.Info("session opened", "producer", "n1:4150")
		if !strings.Contains(logged.String(), want) || strings.Count(logged.String(), "\n") != 1 {
			t.Errorf("%s: %s", format, logged.String())
		}
		if lines, _ := j.ring.Last(9); len(lines) != 1 || lines[0] != logged.String() {
			t.Errorf("%s: %q is kept", format, lines)
		}
		j.level.Set(levelFatal)
		j.Error("not seen")
		if strings.Contains(logged.String(), "not seen") {
			t.Errorf("%s: the level is not obeyed", format)
		}
	}
	var talk bytes.Buffer
	if code := run([]string{"-log-format=xml", "-check-config"}, nil, io.Discard, &talk); code != exitConfig || !strings.Contains(talk.String(), `"xml" is none of nsq, text, json`) {
		t.Errorf("exit code %d: %s", code, talk.String())
	}
}
