package supervisor_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// fakeLookupd takes V1 sessions and counts what they say.
type fakeLookupd struct {
	listener net.Listener
	wait     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	hosts map[string]int // host name -> HTTP port
	said  map[string]int // line -> times
}

func newFakeLookupd(t *testing.T) *fakeLookupd {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeLookupd{listener: listener, hosts: map[string]int{}, said: map[string]int{}}
	f.wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, conn)
			f.mu.Unlock()
			f.wait.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(f.die)
	return f
}

func (f *fakeLookupd) address() string { return f.listener.Addr().String() }

// die ends as a killed process does.
func (f *fakeLookupd) die() {
	_ = f.listener.Close()
	f.mu.Lock()
	for _, conn := range f.conns {
		_ = conn.Close()
	}
	f.mu.Unlock()
	f.wait.Wait()
}

func (f *fakeLookupd) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	if _, err := in.Discard(len("  V1")); err != nil {
		return
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		answer := "OK"
		if line == "IDENTIFY\n" {
			if err := f.identify(in); err != nil {
				return
			}
			answer = "{}"
		}
		f.mu.Lock()
		f.said[strings.TrimSpace(line)]++
		f.mu.Unlock()
		if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...)); err != nil {
			return
		}
	}
}

func (f *fakeLookupd) identify(in io.Reader) error {
	var size uint32
	if err := binary.Read(in, binary.BigEndian, &size); err != nil {
		return err
	}
	var said struct {
		Hostname string `json:"hostname"`
		HTTPPort int    `json:"http_port"`
	}
	if err := json.NewDecoder(io.LimitReader(in, int64(size))).Decode(&said); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hosts[said.Hostname] = said.HTTPPort
	return nil
}

// want waits until the fake has heard so many producers, and a line of one.
func (f *fakeLookupd) want(t *testing.T, producers int, line string) {
	t.Helper()
	err := supervisor.Poll(deadline(t), func(context.Context) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.hosts) != producers || f.said[line] == 0 {
			return fmt.Errorf("heard %v of %v", f.said, f.hosts)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestLoad(t *testing.T) {
	a, b := newFakeLookupd(t), newFakeLookupd(t)
	load, err := supervisor.StartLoad([]string{a.address(), b.address()}, 6, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer load.Close()
	if err := load.WaitDeclared(deadline(t)); err != nil {
		t.Fatal(err)
	}
	a.want(t, 3, "REGISTER load-1")
	a.want(t, 3, "REGISTER load-2 archive")
	a.want(t, 3, "PING")
	b.want(t, 3, "REGISTER load-1 mail")
	port := b.hosts["load-2"]
	if err := supervisor.WantOK(deadline(t), "http://"+supervisor.Address(port)+"/ping"); err != nil {
		t.Error(err)
	}

	a.die()
	b.want(t, 6, "REGISTER load-1 metrics")
	if err := load.WaitDeclared(deadline(t)); err != nil {
		t.Error(err)
	}
	b.die()
	err = supervisor.Poll(deadline(t), func(context.Context) error {
		if n := load.Declared(); n > 0 {
			return fmt.Errorf("without a peer %d producers are connected", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := load.Close(); err != nil {
		t.Error(err)
	}
	if _, err := http.Get("http://" + supervisor.Address(port) + "/ping"); err == nil {
		t.Error("a producer outlives the load")
	}
}
