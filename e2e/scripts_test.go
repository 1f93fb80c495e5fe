package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lookupd/lookupd/supervisor"
)

// TestScripts runs what an operator does, as testdata/scripts tells it, with real
// processes. Beside testscript's own the scripts have these commands:
//
//	cluster NAME... [FLAG...] found a cluster of these peers; $NAME is the HTTP address of each
//	peer NAME [FLAG...]    start one more, which joins all those before
//	newer NAME [FLAG...]   the same, of version 9.0.0
//	slow NAME [FLAG...]    the same, whose state stands still, so it is never ready
//	stranger NAME [FLAG...] the same, which the others do not let in
//	join FILE PART...      write a file that holds those, as a rename would
//	topics N               create so many, one after another
//	crash|halt|start NAME  SIGKILL; SIGTERM; start, and wait until it is ready
//	launch NAME            start, without a wait
//	wipe NAME              delete its data
//	exits NAME CODE        wait until the process has ended by itself, with that code
//	log NAME REGEXP        its log has a line like that
//	nsqd NAME PEER... [FLAG...] start an nsqd that registers at these peers
//	publish NSQD TOPIC     which declares the topic
//	watch TOPIC NSQD       from now to the script's end no peer may answer a lookup without it
//	offers TOPIC NSQD PEER... wait until all these peers do
//	ctl CODE ARG...        run lookupctl, which must end with that code
//	until REGEXP ARG...    run lookupctl until it prints that
//	leader VARIABLE        set it to the leader's name
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/scripts/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	for _, path := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel() // they wait for autopilot and for removed peers most of the time
			s := &script{world: newWorld(t), cluster: &supervisor.Cluster{}, nsqds: map[string]*nsqd{}}
			t.Cleanup(s.judge) // the script itself runs when this function has returned
			testscript.Run(t, testscript.Params{
				Files: []string{path}, RequireExplicitExec: true, RequireUniqueNames: true,
				Setup: func(e *testscript.Env) error {
					e.Setenv("PATH", binaries.dir+string(os.PathListSeparator)+e.Getenv("PATH"))
					return nil
				},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"cluster": s.found, "peer": s.peer(binaries.lookupd), "newer": s.peer(binaries.newer), "slow": s.launch(binaries.slow), "stranger": s.launch(binaries.lookupd), "join": joinFiles, "topics": s.topics, "nsqd": s.startOneNSQD, "publish": s.publish,
					"crash":  s.each(func(p *supervisor.Peer) error { return p.Kill() }),
					"halt":   s.each(func(p *supervisor.Peer) error { return p.Stop(patience) }),
					"launch": s.each((*supervisor.Peer).Start),
					"start":  s.each(s.startPeer),
					"wipe":   s.each(func(p *supervisor.Peer) error { return os.RemoveAll(p.DataPath()) }),
					"exits":  s.exits, "log": s.log, "watch": s.watch, "offers": s.offers,
					"ctl": s.ctl, "until": s.until, "leader": s.leader,
				},
			})
		})
	}
}

// script is the world of one script. One goroutine uses it.
type script struct {
	*world
	cluster *supervisor.Cluster // all peers
	nsqds   map[string]*nsqd
	watches []*offerWatch
}

func (s *script) find(ts *testscript.TestScript, name string) *supervisor.Peer {
	p := s.cluster.Peer(name)
	if p == nil {
		ts.Fatalf("no peer %q", name)
	}
	return p
}

// each makes a command of what is done to the peers that it names.
func (s *script) each(do func(*supervisor.Peer) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		for _, name := range args {
			ts.Check(do(s.find(ts, name)))
		}
	}
}

func (s *script) startPeer(p *supervisor.Peer) error {
	return errors.Join(p.Start(), p.WaitReady(within(s.t, patience)))
}

func (s *script) add(ts *testscript.TestScript, p *supervisor.Peer) {
	s.cluster.Peers = append(s.cluster.Peers, p)
	ts.Setenv(p.Name(), p.HTTPAddress())
	ts.Setenv("data_"+p.Name(), p.DataPath())
}

// found starts peers that know nobody but each other.
func (s *script) found(ts *testscript.TestScript, _ bool, args []string) {
	names, flags := args, []string(nil)
	if i := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "-") }); i >= 0 {
		names, flags = args[:i], args[i:]
	}
	all := ports(s.t, len(names))
	var join []string
	for _, p := range all {
		join = append(join, supervisor.Address(p.Gossip))
	}
	var peers []*supervisor.Peer
	for i, name := range names {
		p := s.NewPeer(supervisor.PeerConfig{Name: name, Path: binaries.lookupd, Dir: s.dir, Ports: all[i], Join: join, Expect: len(names), Args: flags})
		ts.Check(p.Start())
		s.add(ts, p)
		peers = append(peers, p)
	}
	for _, p := range peers {
		ts.Check(p.WaitReady(within(s.t, patience)))
	}
	ts.Setenv("LOOKUPD_ADDR", strings.Join((&supervisor.Cluster{Peers: peers}).HTTPAddresses(), ","))
}

// peer makes a command that starts a peer of that binary.
func (s *script) peer(path string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		p := s.joining(path, args)
		ts.Check(s.startPeer(p))
		s.add(ts, p)
	}
}

func (s *script) joining(path string, args []string) *supervisor.Peer {
	var join []string
	for _, p := range s.cluster.Peers {
		join = append(join, p.GossipAddress())
	}
	return s.NewPeer(supervisor.PeerConfig{
		Name: args[0], Path: path, Dir: s.dir, Ports: ports(s.t, 1)[0], Join: join, Args: args[1:],
	})
}

// launch makes a command that starts a peer of that binary, which never gets ready.
func (s *script) launch(path string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		p := s.joining(path, args)
		ts.Check(p.Start())
		s.add(ts, p)
	}
}

func joinFiles(ts *testscript.TestScript, _ bool, args []string) {
	var all strings.Builder
	for _, part := range args[1:] {
		all.WriteString(ts.ReadFile(part))
	}
	path := ts.MkAbs(args[0])
	ts.Check(os.WriteFile(path+".new", []byte(all.String()), 0o600))
	ts.Check(os.Rename(path+".new", path))
}

func (s *script) topics(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	ctx := within(s.t, patience)
	for i := range n {
		ts.Check(supervisor.Poll(ctx, func(ctx context.Context) error {
			status, answer, err := try(ctx, http.MethodPost, s.cluster.Peers[0].URL(fmt.Sprintf("/topic/create?topic=t%d", i)), "", "")
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("create topic: %d %s", status, answer)
			}
			return err
		}))
	}
}

func (s *script) exits(ts *testscript.TestScript, _ bool, args []string) {
	p := s.find(ts, args[0])
	select {
	case <-p.Exited():
	case <-time.After(patience):
		ts.Fatalf("%s runs on:\n%s", p.Name(), p.LogTail())
	}
	if code := strconv.Itoa(p.ExitCode()); code != args[1] {
		ts.Fatalf("%s ended with code %s, want %s:\n%s", p.Name(), code, args[1], p.LogTail())
	}
}

func (s *script) log(ts *testscript.TestScript, _ bool, args []string) {
	text, err := os.ReadFile(s.find(ts, args[0]).LogPath())
	ts.Check(err)
	if !regexp.MustCompile(args[1]).Match(text) {
		ts.Fatalf("the log of %s has no %q", args[0], args[1])
	}
}

func (s *script) startOneNSQD(ts *testscript.TestScript, _ bool, args []string) {
	free, err := supervisor.FreePorts(2)
	ts.Check(err)
	config := supervisor.NSQDConfig{
		Name: args[0], Ports: supervisor.NSQPorts{TCP: free[0], HTTP: free[1]}, Host: supervisor.Loopback,
	}
	for _, arg := range args[1:] {
		if strings.HasPrefix(arg, "-") {
			config.Args = append(config.Args, arg)
		} else {
			config.Lookupds = append(config.Lookupds, s.find(ts, arg).TCPAddress())
		}
	}
	s.nsqds[args[0]] = s.startNSQD(config)
	ts.Setenv(args[0], s.nsqds[args[0]].id())
}

func (s *script) publish(ts *testscript.TestScript, _ bool, args []string) {
	status, answer, err := try(within(s.t, patience), http.MethodPost, s.nsqds[args[0]].url("/pub?topic="+url.QueryEscape(args[1])), "", "hello")
	ts.Check(err)
	if status != http.StatusOK {
		ts.Fatalf("publish: %d %s", status, answer)
	}
}

// lookupLacks returns an error if a peer answers a lookup of topic without the
// producer. No answer, and one that refuses, is none.
func lookupLacks(ctx context.Context, p *supervisor.Peer, topic, producer string) (answered bool, err error) {
	status, body, err := supervisor.Get(ctx, p.URL("/lookup?topic="+url.QueryEscape(topic)))
	if err != nil || status == http.StatusServiceUnavailable {
		return false, nil
	}
	var d struct {
		Producers []struct {
			BroadcastAddress string `json:"broadcast_address"`
			TCPPort          int    `json:"tcp_port"`
		}
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return true, err
	}
	for _, q := range d.Producers {
		if producerID(q.BroadcastAddress, q.TCPPort) == producer {
			return true, nil
		}
	}
	return true, fmt.Errorf("%s answers %d %.200s, which lacks %s", p.Name(), status, body, producer)
}

func (s *script) offers(ts *testscript.TestScript, _ bool, args []string) {
	producer := s.nsqds[args[1]].id()
	for _, name := range args[2:] {
		p := s.find(ts, name)
		ts.Check(supervisor.Poll(within(s.t, patience), func(ctx context.Context) error {
			answered, err := lookupLacks(ctx, p, args[0], producer)
			if err == nil && !answered {
				err = fmt.Errorf("%s does not answer", name)
			}
			return err
		}))
	}
}

// offerWatch asks for one producer again and again.
type offerWatch struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	lookups int // that were answered
	wrong   []string
}

func (s *script) watch(_ *testscript.TestScript, _ bool, args []string) {
	topic, producer := args[0], s.nsqds[args[1]].id()
	peers := slices.Clone(s.cluster.Peers)
	ctx, stop := context.WithCancel(context.Background())
	w := &offerWatch{stop: stop}
	s.watches = append(s.watches, w)
	s.t.Cleanup(w.end)
	for _, p := range peers {
		w.done.Go(func() {
			for ctx.Err() == nil {
				answered, err := lookupLacks(ctx, p, topic, producer)
				w.note(answered, err)
				select {
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
}

func (w *offerWatch) note(answered bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if answered {
		w.lookups++
	}
	if err != nil {
		w.wrong = append(w.wrong, err.Error())
	}
}

func (w *offerWatch) end() {
	w.stop()
	w.done.Wait()
}

// judge fails the test if a lookup lacked what is watched, or none was answered.
func (s *script) judge() {
	for _, w := range s.watches {
		w.end()
		if len(w.wrong) > 0 || w.lookups == 0 {
			s.t.Errorf("%d of %d lookups lack a live producer, first: %.3q", len(w.wrong), w.lookups, w.wrong)
		}
		s.t.Logf("%d lookups, none wrong", w.lookups)
	}
}

// run runs lookupctl and returns its exit code; stdout and stderr are the
// script's to look at.
func (s *script) run(ts *testscript.TestScript, args []string) int {
	err := ts.Exec(binaries.lookupctl, args...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	ts.Fatalf("lookupctl: %v", err)
	return -1
}

func (s *script) ctl(ts *testscript.TestScript, _ bool, args []string) {
	if code := strconv.Itoa(s.run(ts, args[1:])); code != args[0] {
		ts.Fatalf("lookupctl %v: exit code %s, want %s", args[1:], code, args[0])
	}
}

func (s *script) until(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile(args[0])
	ts.Check(supervisor.Poll(within(s.t, patience), func(context.Context) error {
		s.run(ts, args[1:])
		if printed := ts.ReadFile("stdout") + ts.ReadFile("stderr"); !want.MatchString(printed) {
			time.Sleep(100 * time.Millisecond) // each try fills the script's log
			return fmt.Errorf("lookupctl %v prints no %q: %s", args[1:], args[0], printed)
		}
		return nil
	}))
}

func (s *script) leader(ts *testscript.TestScript, _ bool, args []string) {
	l, err := s.cluster.WaitLeader(within(s.t, patience))
	ts.Check(err)
	ts.Setenv(args[0], l.Name())
}
