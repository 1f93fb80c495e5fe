package tcpproto_test

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/tcpproto"
)

// TestBadInputs has the rows of docs/bad-inputs.md that are more than bytes and
// their answer.
func TestBadInputs(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"T2 lengths without a body take no memory": hugeLengths,
		"T5 half bodies take no memory":            halfBodies,
		"T21 an endless line takes no memory":      endlessLine,
		"T22 a byte now and then inside a line":    drippingLine,
		"T31 answers that nobody reads":            unreadAnswers,
		"T32 RST inside a command":                 reset,
		"T32 half-close":                           halfClose,
	} {
		t.Run(name, test)
	}
}

func TestDefaultsThatBadInputsMeet(t *testing.T) {
	d := tcpproto.DefaultLimits()
	for name, test := range map[string]struct{ got, want any }{
		"T2 body of 64 KiB":            {d.BodyBytes, 64 << 10},
		"T5 body within 10 s":          {d.Body, 10 * time.Second},
		"T20 magic within 5 s":         {d.Magic, 5 * time.Second},
		"T21 line of 512 bytes":        {d.LineBytes, 512},
		"T22 line within 5 s":          {d.Line, 5 * time.Second},
		"T31 answers taken within 5 s": {d.Write, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if test.got != test.want {
				t.Errorf("%v, want %v", test.got, test.want)
			}
		})
	}
}

// perConnection is what a connection may allocate from its first byte to its
// last, on both ends; a body of 64 KiB does not fit into it.
const perConnection = 24 << 10

func hugeLengths(t *testing.T) {
	const clients = 100
	server := serve(t, &sessions{}, tcpproto.Limits{}, nil)
	before := allocated()
	for i := range clients {
		c := dial(t, server)
		c.send("  V1IDENTIFY\n" + []string{"\x7f\xff\xff\xff", "\x00\x01\x00\x01"}[i%2] + repeat(1000))
		if got, err := c.frame(); err != nil || !strings.HasPrefix(got, "E_BAD_BODY IDENTIFY invalid body size ") {
			t.Fatalf("got %q, %v", got, err)
		}
		c.wantEnd()
	}
	if each := (allocated() - before) / clients; each > perConnection {
		t.Errorf("%d bytes allocated for each", each)
	}
}

func halfBodies(t *testing.T) {
	const clients = 100
	server := serve(t, &sessions{}, tcpproto.Limits{Body: short}, nil)
	before := allocated()
	all := make([]*client, clients)
	for i := range all {
		all[i] = dial(t, server)
		all[i].send("  V1IDENTIFY\n\x00\x01\x00\x00" + repeat(40))
	}
	for _, c := range all {
		c.wantEnd()
	}
	if each := (allocated() - before) / clients; each > perConnection {
		t.Errorf("%d bytes allocated for each", each)
	}
	eventually(t, "counted", func() bool { return server.Stats().Refused["timeout"] == clients })
}

func drippingLine(t *testing.T) {
	c := identified(t, serve(t, &sessions{}, tcpproto.Limits{Line: short}, nil))
	began := time.Now()
	ticker := time.NewTicker(short / 4)
	defer ticker.Stop()
	ended := make(chan error, 1)
	go func() {
		_, err := c.frame()
		ended <- err
	}()
	for {
		select {
		case <-ticker.C:
			_, _ = io.WriteString(c, "P") // fails once the server has closed
			continue
		case <-ended:
		}
		break
	}
	if took := time.Since(began); took < short || took > short+patience/2 {
		t.Errorf("closed after %v", took)
	}
}

func endlessLine(t *testing.T) {
	server := serve(t, &sessions{}, tcpproto.Limits{}, nil)
	c := dial(t, server)
	before := allocated()
	c.send("  V1")
	chunk := bytes.Repeat([]byte("x"), 64<<10)
	for range 1000 {
		if _, err := c.Write(chunk); err != nil {
			break // the server has closed
		}
	}
	eventually(t, "closed", func() bool { return server.Stats().Connections == 0 })
	if used := allocated() - before; used > 1<<20 {
		t.Errorf("%d bytes allocated", used)
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// deaf is a Sessions and a Session that forgets what it is told.
type deaf struct{ closed chan struct{} }

func (d deaf) Open(registry.ProducerInfo, func(string)) (tcpproto.Session, error) { return d, nil }
func (deaf) Register(string, string) error                                        { return nil }
func (deaf) Unregister(string, string) error                                      { return nil }
func (deaf) AnsweredAt() uint64                                                   { return 0 }
func (deaf) Ping()                                                                {}
func (d deaf) Close()                                                             { close(d.closed) }

// unreadAnswers sends up to 10 M commands, 50 MB, and reads nothing.
func unreadAnswers(t *testing.T) {
	const most = 16 << 20
	limits := tcpproto.Limits{Write: short, Commands: 10_000_000, CommandBurst: 10_000_000}
	d := deaf{make(chan struct{})}
	c := identified(t, serveSessions(t, d, limits, nil))
	pings := []byte(strings.Repeat("PING\n", 10_000))
	before := inUse()
	for range 1000 {
		if _, err := c.Write(pings); err != nil {
			break
		}
		if now := inUse(); now > before+most {
			t.Fatalf("the heap grew from %d to %d bytes", before, now)
		}
	}
	if _, err := c.Write(pings); err == nil {
		t.Error("10 M commands went through without a reader")
	}
	select {
	case <-d.closed:
	case <-time.After(patience):
		t.Error("the session was not closed")
	}
}

// inUse is the size of the heap, what a collection would free included.
func inUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func halfClose(t *testing.T) {
	s := &sessions{}
	c := identified(t, serve(t, s, tcpproto.Limits{}, nil))
	c.send("REGISTER t\nPING\nUNREG")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.want("OK", "OK")
	c.wantEnd()
	eventually(t, "close", func() bool { return s.noted() == "open h:4150; register t/; ping; close" })
}

func reset(t *testing.T) {
	s := &sessions{}
	c := identified(t, serve(t, s, tcpproto.Limits{}, nil))
	c.send("REGIS")
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "close", func() bool { return s.noted() == "open h:4150; close" })
}
