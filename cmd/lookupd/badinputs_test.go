package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const patience = 60 * time.Second

// v1 is a client of the V1 protocol that has said nothing but the magic.
type v1 struct{ *net.TCPConn }

func dialV1(d *daemon, local net.Addr) (v1, error) {
	dialer := net.Dialer{LocalAddr: local, Timeout: patience}
	conn, err := dialer.Dial("tcp", d.tcp.Addr().String())
	if err != nil {
		return v1{}, err
	}
	c := v1{conn.(*net.TCPConn)}
	return c, errors.Join(c.SetDeadline(time.Now().Add(patience)), c.send("  V1"))
}

func (c v1) send(text string) error {
	_, err := io.WriteString(c, text)
	return err
}

// call sends a command and returns its answer.
func (c v1) call(command string) (string, error) {
	if err := c.send(command); err != nil {
		return "", err
	}
	var size uint32
	if err := binary.Read(c, binary.BigEndian, &size); err != nil {
		return "", err
	}
	answer := make([]byte, min(size, 1<<16))
	_, err := io.ReadFull(c, answer)
	return string(answer), err
}

func (c v1) identify(host, hostname string) error {
	body := fmt.Sprintf(`{"broadcast_address":%q,"hostname":%q,"tcp_port":4150,"http_port":4151,"version":"1.3.0"}`, host, hostname)
	answer, err := c.call("IDENTIFY\n" + string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body)
	if err == nil && !strings.HasPrefix(answer, "{") {
		err = errors.New(answer)
	}
	return err
}

// declare identifies and sends lines, which must be answered OK.
func (c v1) declare(host, hostname string, lines ...string) error {
	if err := c.identify(host, hostname); err != nil {
		return fmt.Errorf("IDENTIFY: %w", err)
	}
	for _, line := range lines {
		answer, err := c.call(line + "\n")
		for deadline := time.Now().Add(patience); strings.HasPrefix(answer, "E_UNAVAILABLE") && time.Now().Before(deadline); {
			answer, err = c.call(line + "\n") // a slow machine: the change is under way, and waited for again
		}
		if err != nil || answer != "OK" {
			return fmt.Errorf("%s: %q, %v", line, answer, err)
		}
	}
	return nil
}

// nsqd dials, identifies and sends lines.
func nsqd(t *testing.T, d *daemon, host, hostname string, lines ...string) v1 {
	t.Helper()
	c, err := dialV1(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.declare(host, hostname, lines...); err != nil {
		t.Fatal(err)
	}
	return c
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestBadInputs has rows of docs/bad-inputs.md that need all of a peer.
func TestBadInputs(t *testing.T) {
	d, err := startDaemon(t, loopbackOptions(t, t.TempDir()+"/data"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	})
	eventually(t, func() error { return d.node.Ready() })
	for name, test := range map[string]func(*testing.T, *daemon){
		"T13 markup is escaped everywhere":          markup,
		"T27 names are no file names":               oddNames,
		"T30 UNREGISTER of the unknown":             unregisterUnknown,
		"T34 one producer on 1,000 connections":     manyConnections,
		"T35 reconnect from the same port, at once": samePort,
	} {
		t.Run(name, func(t *testing.T) { test(t, d) })
	}
}

func ask(t *testing.T, d *daemon, path string) (body string, status int) {
	t.Helper()
	return get(t, "http://"+d.http.Addr().String()+path)
}

func markup(t *testing.T, d *daemon) {
	const script = "<script>alert(1)</script>"
	nsqd(t, d, "<i>", script, "REGISTER marked")
	for path, shown := range map[string]bool{
		"/lookup?topic=marked": true, "/nodes": true, "/debug": true, "/v1/producers": false, "/v1/status": false, "/metrics": false, "/topics": false,
		"/lookup?topic=" + url.QueryEscape(script): false, "/" + url.PathEscape(script): false,
	} {
		body, _ := ask(t, d, path)
		if strings.Contains(body, "<script") || strings.Contains(body, "<i>") {
			t.Errorf("%s: %s", path, body)
		}
		if shown && !strings.Contains(body, `\u003cscript\u003e`) {
			t.Errorf("%s does not show the hostname: %s", path, body)
		}
	}
}

func oddNames(t *testing.T, d *daemon) {
	base := filepath.Dir(d.o.dataPath)
	before := paths(t, base)
	nsqd(t, d, "odd", "odd", "REGISTER .. ..", "REGISTER . .", "REGISTER - -", "REGISTER a#ephemeral")
	for _, topic := range []string{"..", ".", "-", "a%23ephemeral"} {
		if body, status := ask(t, d, "/lookup?topic="+topic); status != http.StatusOK || !strings.Contains(body, `"odd"`) {
			t.Errorf("%s: %d %s", topic, status, body)
		}
	}
	if after := paths(t, base); !slices.Equal(after, before) {
		t.Errorf("files before: %q, after: %q", before, after)
	}
}

func paths(t *testing.T, base string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(base, func(path string, _ fs.DirEntry, err error) error {
		found = append(found, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func unregisterUnknown(t *testing.T, d *daemon) {
	nsqd(t, d, "unknown", "unknown", "UNREGISTER never", "UNREGISTER never c", "REGISTER known", "UNREGISTER known never", "PING")
	if body, status := ask(t, d, "/lookup?topic=never"); status != http.StatusNotFound {
		t.Errorf("UNREGISTER made a topic: %d %s", status, body)
	}
	if body, status := ask(t, d, "/lookup?topic=known"); status != http.StatusOK || !strings.Contains(body, `"channels":[],"producers":[{`) {
		t.Errorf("%d %s", status, body)
	}
}

// manyConnections: of all that identify as one nsqd, the newest stays.
func manyConnections(t *testing.T, d *daemon) {
	const clients, each = 10, 100
	open := func() int { return d.tcp.Stats().Connections }
	eventually(t, func() error {
		if n := open(); n > 0 {
			return fmt.Errorf("%d connections of earlier cases", n)
		}
		return nil
	})
	var dialling sync.WaitGroup
	all := make([]v1, clients*each)
	for i := range clients {
		dialling.Go(func() {
			for j := range each {
				c, err := dialV1(d, nil)
				if err == nil {
					err = c.identify("same", "same") // a newer one may end it meanwhile
				}
				if err != nil && c.TCPConn == nil {
					t.Error(err)
					return
				}
				all[i*each+j] = c
			}
		})
	}
	dialling.Wait()
	eventually(t, func() error {
		if n := open(); n != 1 {
			return fmt.Errorf("%d connections are open, want 1", n)
		}
		return nil
	})
	alive := 0
	for _, c := range all {
		if c.TCPConn == nil {
			continue
		}
		if answer, err := c.call("REGISTER same\n"); err == nil && answer == "OK" {
			alive++
		}
		defer c.Close()
	}
	if alive != 1 {
		t.Errorf("%d connections are served", alive)
	}
	for _, path := range []string{"/lookup?topic=same", "/nodes"} {
		if body, _ := ask(t, d, path); strings.Count(body, `"broadcast_address":"same"`) != 1 {
			t.Errorf("%s: %s", path, body)
		}
	}
}

// samePort: an nsqd whose connection breaks comes back from the same port
// before the end of the old session is committed.
func samePort(t *testing.T, d *daemon) {
	const rounds = 20
	shown := func() error {
		if body, status := ask(t, d, "/lookup?topic=again"); status != http.StatusOK || !strings.Contains(body, `"broadcast_address":"again"`) {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	}
	c := nsqd(t, d, "again", "again", "REGISTER again")
	for round := 0; round < rounds; round++ {
		local := c.LocalAddr()
		if err := errors.Join(c.SetLinger(0), c.Close()); err != nil { // RST: the port is free at once
			t.Fatal(err)
		}
		var err error
		if c, err = dialV1(d, local); errors.Is(err, syscall.EADDRINUSE) { // another process of this machine was faster
			c, round = nsqd(t, d, "again", "again"), round-1
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if err := c.declare("again", "again", "REGISTER again"); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := shown(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	defer c.Close()
	// The end of a session is committed within a second.
	for until := time.Now().Add(1500 * time.Millisecond); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if err := shown(); err != nil {
			t.Fatal(err)
		}
	}
}
