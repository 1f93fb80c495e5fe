package target

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/lookupd/lookupd/supervisor"
)

// NSQLookupd starts so many nsqlookupds that know nothing of each other. Quiet
// ones write no line for each request and registration, as they do by default.
func (f *Fleet) NSQLookupd(ctx context.Context, name string, daemons int, quiet bool) (*Target, error) {
	dir, err := f.place(name)
	if err != nil {
		return nil, err
	}
	ports, err := supervisor.FreePorts(2 * daemons)
	if err != nil {
		return nil, err
	}
	t := &Target{Name: name}
	for i := range daemons {
		n := &Node{V1: supervisor.Address(ports[2*i]), HTTP: supervisor.Address(ports[2*i+1])}
		args := []string{"-tcp-address", n.V1, "-http-address", n.HTTP, "-broadcast-address", supervisor.Loopback}
		if quiet {
			args = append(args, "-log-level", "warn")
		}
		n.Process = f.group.NewProcess(supervisor.Spec{
			Name: fmt.Sprint(name, i), Path: f.binaries.NSQLookupd, Args: args, Log: filepath.Join(dir, fmt.Sprint(i, ".log")),
			Ready: func(ctx context.Context) error { return supervisor.WantOK(ctx, "http://"+n.HTTP+"/ping") },
		})
		t.Nodes = append(t.Nodes, n)
	}
	return t, t.start(ctx)
}

// Etcd starts an etcd cluster of so many members, with etcd's defaults.
func (f *Fleet) Etcd(ctx context.Context, name string, members int) (*Target, error) {
	dir, err := f.place(name)
	if err != nil {
		return nil, err
	}
	ports, err := supervisor.FreePorts(2 * members)
	if err != nil {
		return nil, err
	}
	url := func(i int) string { return "http://" + supervisor.Address(ports[i]) }
	var all []string
	for i := range members {
		all = append(all, fmt.Sprintf("m%d=%s", i, url(2*i+1)))
	}
	t := &Target{Name: name}
	for i := range members {
		client, peer := url(2*i), url(2*i+1)
		n := &Node{Etcd: client, Data: filepath.Join(dir, fmt.Sprint("m", i))}
		n.Process = f.group.NewProcess(supervisor.Spec{
			Name: fmt.Sprint(name, i), Path: f.binaries.Etcd, Log: filepath.Join(dir, fmt.Sprint(i, ".log")),
			Args: []string{
				"--name", fmt.Sprint("m", i), "--data-dir", n.Data, "--log-level", "warn",
				"--listen-client-urls", client, "--advertise-client-urls", client,
				"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", strings.Join(all, ","),
			},
			Ready: func(ctx context.Context) error { return supervisor.WantOK(ctx, client+"/health") },
		})
		t.Nodes = append(t.Nodes, n)
	}
	t.leader = t.etcdLeader
	return t, t.start(ctx)
}

func (t *Target) etcdLeader(ctx context.Context) (*Node, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: t.Etcd(), DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	for _, n := range t.Nodes {
		status, err := client.Status(ctx, n.Etcd)
		if err != nil {
			return nil, err
		}
		if status.Leader == status.Header.MemberId {
			return n, nil
		}
	}
	return nil, supervisor.ErrNoLeader
}

// Arguments that make this program a bare handler, and whom one asks.
const (
	BareRole = "bare"
	EchoRole = "echo"
)

// echoBytes is about what a question of a read index has.
const echoBytes = 64

// bareAnswer is what the bare handler writes.
type bareAnswer struct {
	Header http.Header
	Body   []byte
}

// Bare starts a net/http handler that answers every request with the headers
// and the body of the answer to url, and does nothing else.
func (f *Fleet) Bare(ctx context.Context, url string) (*Target, error) {
	n, err := f.bare(ctx, "bare", url, "")
	if err != nil {
		return nil, err
	}
	t := &Target{Name: "bare handler", Nodes: []*Node{n}}
	return t, t.start(ctx)
}

// BarePair starts one that, before each answer, sends another process a few
// bytes and waits until it has sent them back: the least that an answer costs on
// which two processes must agree. It asks for one request at a time.
func (f *Fleet) BarePair(ctx context.Context, url string) (*Target, error) {
	dir, err := f.place(EchoRole)
	if err != nil {
		return nil, err
	}
	self, address, err := self()
	if err != nil {
		return nil, err
	}
	echo := &Node{Process: f.group.NewProcess(supervisor.Spec{
		Name: EchoRole, Path: self, Args: []string{EchoRole, address}, Log: filepath.Join(dir, "log"),
		Ready: func(ctx context.Context) error { return dialed(ctx, address) },
	})}
	n, err := f.bare(ctx, "bare-pair", url, address)
	if err != nil {
		return nil, err
	}
	t := &Target{Name: "bare pair", Nodes: []*Node{n, echo}}
	return t, t.start(ctx)
}

// self returns this program's path, and an address at which it may serve.
func self() (path, address string, err error) {
	if path, err = os.Executable(); err != nil {
		return "", "", err
	}
	ports, err := supervisor.FreePorts(1)
	if err != nil {
		return "", "", err
	}
	return path, supervisor.Address(ports[0]), nil
}

func dialed(ctx context.Context, address string) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

// bare makes a bare handler that is not started yet.
func (f *Fleet) bare(ctx context.Context, name, url, echo string) (*Node, error) {
	dir, err := f.place(name)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "answer.json")
	if err := copyAnswer(ctx, url, file); err != nil {
		return nil, err
	}
	self, address, err := self()
	if err != nil {
		return nil, err
	}
	n := &Node{HTTP: address}
	n.Process = f.group.NewProcess(supervisor.Spec{
		Name: name, Path: self, Args: []string{BareRole, n.HTTP, file, echo}, Log: filepath.Join(dir, "log"),
		Ready: func(ctx context.Context) error { return supervisor.WantOK(ctx, "http://"+n.HTTP+"/") },
	})
	return n, nil
}

// copyAnswer stores the answer to a GET.
func copyAnswer(ctx context.Context, url, file string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: status %d: %.200s", url, response.StatusCode, body)
	}
	response.Header.Del("Date") // net/http writes its own
	response.Header.Del("Content-Length")
	text, err := json.Marshal(bareAnswer{Header: response.Header, Body: body})
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

// BareMain is the life of a bare handler: it serves at address until it is
// killed. If echo is not "" it asks there before each answer.
func BareMain(address, file, echo string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var answer bareAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return err
	}
	ask := func() error { return nil }
	if echo != "" {
		ask = asker(echo)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := ask(); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		maps.Copy(w.Header(), answer.Header)
		_, _ = w.Write(answer.Body)
	})
	server := &http.Server{Addr: address, ReadHeaderTimeout: 10 * time.Second, Handler: handler}
	return server.ListenAndServe()
}

// asker returns a function that sends a few bytes to address and waits for them.
func asker(address string) func() error {
	var (
		mu sync.Mutex
		c  net.Conn
		b  = make([]byte, echoBytes)
	)
	return func() (err error) {
		mu.Lock()
		defer mu.Unlock()
		if c == nil { // the other process starts at the same time
			if c, err = net.Dial("tcp", address); err != nil {
				return err
			}
		}
		if _, err = c.Write(b); err == nil {
			_, err = io.ReadFull(c, b)
		}
		if err != nil {
			_ = c.Close() // the next one dials
			c = nil
		}
		return err
	}
}

// EchoMain sends back what it is sent at address, until it is killed.
func EchoMain(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			b := make([]byte, echoBytes)
			for {
				if _, err := io.ReadFull(c, b); err != nil {
					return
				}
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		}()
	}
}
