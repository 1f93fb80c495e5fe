package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor/lab"
)

// inside runs the test's body in a process with a network of its own.
func inside(t *testing.T, body func(t *testing.T, n *lab.Network)) {
	t.Helper()
	if lab.Inside() == t.Name() {
		n, err := lab.New()
		if err != nil {
			t.Fatal(err)
		}
		body(t, n)
		return
	}
	if err := lab.Missing(); err != nil {
		if os.Getenv("LOOKUPD_FAULTS") == "require" {
			t.Fatal(err)
		}
		line := fmt.Sprintf("SKIPPED %s: %v", t.Name(), err)
		fmt.Println(line) // go test hides what a skip says
		t.Skip(line)
	}
	words := append(lab.Wrap(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
	cmd.Env = append(os.Environ(), lab.Env(t.Name()))
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("inside: %v", err)
	}
}

func TestOutside(t *testing.T) {
	if _, err := lab.New(); !errors.Is(err, lab.ErrOutside) {
		t.Errorf("New outside: %v, want ErrOutside", err)
	}
}

func TestRules(t *testing.T) {
	inside(t, testRules)
}

func testRules(t *testing.T, n *lab.Network) {
	a, b := addHost(t, n, "a"), addHost(t, n, "b")
	if _, err := n.AddHost("a"); err == nil {
		t.Error("two hosts of one name")
	}
	checkReach(t, a, b, reached)

	t.Run("drop one way", func(t *testing.T) {
		rule := rule(t)(n.Block(a, b, lab.Drop))
		checkReach(t, a, b, lost) // the SYN does not arrive
		checkReach(t, b, a, lost) // its answer does not
		checkPackets(t, rule)
		do(t, rule.Remove)
		do(t, rule.Remove)
	})
	t.Run("reject", func(t *testing.T) {
		rule := rule(t)(n.Block(a, b, lab.Reject))
		checkReach(t, a, b, refused)
		checkPackets(t, rule)
		do(t, rule.Remove)
	})
	t.Run("loss", func(t *testing.T) {
		rule := rule(t)(n.Loss(b, 1))
		checkReach(t, a, b, lost)
		checkPackets(t, rule)
	})
	t.Run("slow", func(t *testing.T) {
		do(t, n.Heal) // of the loss
		rule := rule(t)(n.Slow(a, "1mbit", "400ms"))
		began := time.Now()
		checkReach(t, a, b, reached) // what it sends takes 1 s
		if took := time.Since(began); took < time.Second/2 {
			t.Errorf("took %v", took)
		}
		checkPackets(t, rule)
		do(t, n.Heal)
	})
	t.Run("unplugged", func(t *testing.T) {
		do(t, func() error { return b.Unplug(lab.Peers) })
		checkReach(t, a, b, lost)
		do(t, func() error { return b.Plug(lab.Peers) })
	})
	t.Run("link down", func(t *testing.T) {
		do(t, func() error { return b.LinkDown(lab.Peers) })
		checkReach(t, a, b, lost)
		do(t, func() error { return b.LinkUp(lab.Peers) })
	})
	checkReach(t, a, b, reached)
	for _, h := range n.Hosts() {
		words := append(h.Wrap(), "iptables", "-S", "INPUT")
		if out, err := exec.Command(words[0], words[1:]...).Output(); err != nil || strings.TrimSpace(string(out)) != "-P INPUT ACCEPT" {
			t.Errorf("%s after Heal: %s %v", h.Name, out, err)
		}
	}
}

// What a dial from one host to another comes to.
const (
	reached = "reached"
	lost    = "i/o timeout"
	refused = "connection refused"
)

// Modes of this program when it runs on a host, and the address that they take.
const (
	modeEnv, addressEnv    = "LAB_TEST_MODE", "LAB_TEST_ADDRESS"
	modeListen, modeDial   = "listen", "dial"
	dialTimeout, sentBytes = 2 * time.Second, 128 << 10
)

func TestMain(m *testing.M) {
	var err error
	switch address := os.Getenv(addressEnv); os.Getenv(modeEnv) {
	case modeListen:
		err = listen(address)
	case modeDial:
		err = dial(address)
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(reached)
}

// listen takes connections, and answers each when it has sent everything.
func listen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, conn, sentBytes); err == nil {
			_, _ = conn.Write([]byte("x"))
		}
		conn.Close()
	}
}

func dial(address string) error {
	conn, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(make([]byte, sentBytes)); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

// program runs this program on a host.
func program(ctx context.Context, h *lab.Host, mode, address string) *exec.Cmd {
	words := append(h.Wrap(), os.Args[0])
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = append(os.Environ(), modeEnv+"="+mode, addressEnv+"="+address)
	return cmd
}

// addHost adds a host that listens on its address of the peers' switch.
func addHost(t *testing.T, n *lab.Network, name string) *lab.Host {
	t.Helper()
	h, err := n.AddHost(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := program(t.Context(), h, modeListen, listenAddress(h))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // killed with the test's context
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "listening\n" {
		t.Fatalf("listener on %s: %q %v", name, line, err)
	}
	return h
}

func listenAddress(h *lab.Host) string { return net.JoinHostPort(h.Peer, "4000") }

// checkReach dials from one host to another.
func checkReach(t *testing.T, from, to *lab.Host, want string) {
	t.Helper()
	out, _ := program(t.Context(), from, modeDial, listenAddress(to)).CombinedOutput()
	if got := strings.TrimSpace(string(out)); !strings.HasSuffix(got, want) {
		t.Errorf("%s to %s: %s, want %s", from.Name, to.Name, got, want)
	}
}

func rule(t *testing.T) func(*lab.Rule, error) *lab.Rule {
	return func(r *lab.Rule, err error) *lab.Rule {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func checkPackets(t *testing.T, r *lab.Rule) {
	t.Helper()
	if packets, err := r.Packets(); err != nil || packets == 0 {
		t.Errorf("%d packets %v, want some", packets, err)
	}
}

func do(t *testing.T, f func() error) {
	t.Helper()
	if err := f(); err != nil {
		t.Error(err)
	}
}
