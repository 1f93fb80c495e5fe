package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/store"
)

func loopbackOptions(t *testing.T, dataPath string, more ...string) *options {
	t.Helper()
	o, _, err := parse(append([]string{
		"-data-path", dataPath, "-node-name=solo", "-tcp-address=127.0.0.1:0", "-http-address=127.0.0.1:0",
		"-peer-address=127.0.0.1:0", "-gossip-address=127.0.0.1:0", "-broadcast-address=127.0.0.1",
	}, more...), nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func startDaemon(t *testing.T, o *options) (*daemon, error) {
	t.Helper()
	d := newDaemon(o, newJournal(io.Discard, o), func(err error) { t.Errorf("fatal: %v", err) })
	return d, d.start()
}

func TestDaemonServesAndStops(t *testing.T) {
	o := loopbackOptions(t, t.TempDir()+"/data")
	for range 2 { // the second start finds what the first left
		d, err := startDaemon(t, o)
		if err != nil {
			t.Fatal(err)
		}
		base := "http://" + d.http.Addr().String()
		for path, want := range map[string]string{
			"/ping": "OK", "/info": version, "/livez": "", "/v1/status": `"seen_by":"solo"`,
			"/metrics": "raft_state_leader", // the libraries report to our registry
		} {
			deadline := time.Now().Add(10 * time.Second)
			for {
				body, status := get(t, base+path)
				if status == http.StatusOK && strings.Contains(body, want) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s: %d %.300s", path, status, body)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		began := time.Now()
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > o.stopTimeout {
			t.Errorf("stop took %s", took)
		}
		http.DefaultClient.CloseIdleConnections()
	}
}

func get(t *testing.T, url string) (body string, status int) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data), answer.StatusCode
}

// What keeps a peer from starting is said in one sentence, and the port and
// directory of a failed start are free again.
func TestRefusedStarts(t *testing.T) {
	path := t.TempDir() + "/data"
	running, err := startDaemon(t, loopbackOptions(t, path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := running.stop(); err != nil {
			t.Error(err)
		}
	})

	t.Run("C5 second process on the directory", func(t *testing.T) {
		_, err := startDaemon(t, loopbackOptions(t, path))
		if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), path) {
			t.Fatal(err)
		}
	})
	for flag, set := range map[string]func(*options, string){
		"tcp-address":    func(o *options, a string) { o.tcpAddress = a },
		"http-address":   func(o *options, a string) { o.httpAddress = a },
		"peer-address":   func(o *options, a string) { o.peerAddress = a },
		"gossip-address": func(o *options, a string) { o.gossipAddress = a },
	} {
		t.Run("C3 port in use: "+flag, func(t *testing.T) {
			taken, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			refusedUntouched(t, "-"+flag, func(o *options) { set(o, taken.Addr().String()) })
		})
	}
	t.Run("C3 two listeners on one port", func(t *testing.T) {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := free.Addr().String()
		free.Close()
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		refusedUntouched(t, "-http-address", func(o *options) { o.tcpAddress, o.httpAddress = address, "0.0.0.0:"+port })
	})
	t.Run("C6 bad name", func(t *testing.T) {
		o := loopbackOptions(t, t.TempDir()+"/data")
		o.nodeName = "a/b"
		if _, err := startDaemon(t, o); exitCode(err) != exitConfig || !strings.Contains(err.Error(), `"a/b"`) {
			t.Fatalf("exit code %d: %v", exitCode(err), err)
		}
	})
	t.Run("C4 directory is a file", func(t *testing.T) {
		file := t.TempDir() + "/data"
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := startDaemon(t, loopbackOptions(t, file)); err == nil || !strings.Contains(err.Error(), file) {
			t.Fatal(err)
		}
	})
}

// A directory that is refused stays as it is, and the way back is told.
func TestRefusedDataTellsTheNextStep(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(path string) error
		code  int
		next  string
	}{
		"D1 log missing":      {func(p string) error { return os.RemoveAll(p + "/raft") }, exitRefused, "empty -data-path and -join"},
		"D2 log cut":          {func(p string) error { return os.Truncate(p+"/raft/raft.db", 20_000) }, exitDamaged, "empty -data-path and -join"},
		"D13 identity gone":   {func(p string) error { return os.Remove(p + "/node.json") }, exitRefused, "node.json back"},
		"D14 newer identity":  {func(p string) error { return os.WriteFile(p+"/node.json", []byte(`{"format":2}`), 0o600) }, exitRefused, "the version that wrote"},
		"raft's peers.json":   {func(p string) error { return os.WriteFile(p+"/raft/peers.json", []byte("[]"), 0o600) }, exitRefused, "lookupctl recover apply"},
		"C4 writable for all": {func(p string) error { return os.Chmod(p, 0o777) }, exitRefused, "chmod 0700"},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir() + "/data"
			d, err := startDaemon(t, loopbackOptions(t, path))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(d.stop(), test.spoil(path)); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			code := run([]string{
				"-data-path", path, "-tcp-address=127.0.0.1:0", "-http-address=127.0.0.1:0", "-peer-address=127.0.0.1:0", "-gossip-address=127.0.0.1:0",
			}, nil, io.Discard, &out)
			if code != test.code || !strings.Contains(out.String(), "next: ") || !strings.Contains(out.String(), test.next) {
				t.Errorf("exit code %d: %s", code, out.String())
			}
		})
	}
}

func TestLogLine(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(&out, "[lookupd] ", slog.LevelInfo)
	log.With("component", "raft").WithGroup("g").Warn("odd", "text", "a \"b\"\n", "n", 3, "err", errors.New("x"), "bytes", "\xff")
	log.Debug("not this")
	line := regexp.MustCompile(`^\[lookupd\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} WARNING: odd component=raft g\.text="a \\"b\\"\\n" g\.n=3 g\.err=x g\.bytes="\\xff"\n$`)
	if !line.Match(out.Bytes()) {
		t.Error(out.String())
	}
}

// refusedUntouched starts a peer once as it ought to be, then with a fault, which
// must be told by its flag and leave the data as it was.
func refusedUntouched(t *testing.T, flag string, fault func(*options)) {
	t.Helper()
	o := loopbackOptions(t, t.TempDir()+"/data")
	restart := func() {
		t.Helper()
		d, err := startDaemon(t, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	before := dataFiles(t, o.dataPath)
	bad := loopbackOptions(t, o.dataPath)
	fault(bad)
	if _, err := startDaemon(t, bad); err == nil || !strings.Contains(err.Error(), flag+": ") || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
	if after := dataFiles(t, o.dataPath); after != before {
		t.Error("the data was touched")
	}
	restart()
}

// dataFiles returns what must last of a data directory.
func dataFiles(t *testing.T, path string) (files [3]string) {
	t.Helper()
	for i, name := range []string{"node.json", "raft/raft.db", "raft/raft.journal"} {
		content, err := os.ReadFile(filepath.Join(path, name))
		if err != nil {
			t.Fatal(err)
		}
		files[i] = string(content)
	}
	return files
}

func TestEvenNumbersOfVotersAreWarnedOf(t *testing.T) {
	for name, voters := range map[string]int{"C6 2 voters": 2, "C6 4 voters": 4} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			o := loopbackOptions(t, t.TempDir()+"/data")
			o.bootstrapExpect = voters
			d := newDaemon(o, newJournal(&out, o), func(err error) { t.Errorf("fatal: %v", err) })
			if err := d.start(); err != nil {
				t.Fatal(err)
			}
			if err := d.stop(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), "an even number of voters") {
				t.Errorf("no warning in %s", out.String())
			}
		})
	}
}
