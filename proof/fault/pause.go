package fault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

func pauseKinds() []Kind {
	kind := func(name string, run func(context.Context, *Target) (string, error)) Kind {
		return Kind{Name: name, Exclusive: true, Needs: needsPeers(3), Run: run}
	}
	return []Kind{
		kind("pause leader", pauseLeader),
		kind("pause follower", func(ctx context.Context, t *Target) (string, error) { return t.pause(ctx, oneFollower) }),
		kind("pause majority", func(ctx context.Context, t *Target) (string, error) { return t.pause(ctx, aMajority) }),
	}
}

// How long a pause lasts: from one that nobody notices to one that outlives
// every time-out between peers.
const shortestPause, longestPause = 500 * time.Millisecond, 10 * time.Second

// pause stops peers for a while.
func (t *Target) pause(ctx context.Context, c choice) (string, error) {
	leader, victims, err := t.choose(ctx, c)
	if err != nil {
		return "", err
	}
	evidence, err := t.stopped(ctx, victims, func() error { return hold(ctx, t.between(shortestPause, longestPause)) })
	return t.ended(ctx, leader.String()+"; "+evidence, err)
}

// stopped runs during with these peers stopped, and proves that they were.
func (t *Target) stopped(ctx context.Context, victims []*supervisor.Peer, during func() error) (evidence string, err error) {
	defer func() {
		for _, p := range victims {
			err = errors.Join(err, p.Signal(syscall.SIGCONT))
		}
	}()
	began := time.Now()
	for _, p := range victims {
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			return "", err
		}
	}
	for _, p := range victims {
		if err := waitStopped(ctx, p); err != nil {
			return "", err
		}
	}
	err = during()
	for _, p := range victims {
		if state, stateErr := processState(p); stateErr != nil || state != "T" {
			err = errors.Join(err, fmt.Errorf("%w: %s is in state %q when it is to go on %w", ErrNoEvidence, p.Name(), state, stateErr))
		}
	}
	return fmt.Sprintf("%s in state T for %v", names(victims), time.Since(began).Round(time.Millisecond)), err
}

func waitStopped(ctx context.Context, p *supervisor.Peer) error {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	return supervisor.Poll(ctx, func(context.Context) error {
		state, err := processState(p)
		if err == nil && state != "T" {
			err = fmt.Errorf("%w: %s is in state %s", ErrNoEvidence, p.Name(), state)
		}
		return err
	})
}

// processState returns the letter after the name in "1234 (lookupd) T 1 ...".
func processState(p *supervisor.Peer) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return "", err
	}
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) == 0 {
		return "", fmt.Errorf("%w: %s has the state %q", ErrNoEvidence, p.Name(), text)
	}
	return fields[0], nil
}

// pauseLeader stops the leader, if there is time until another one leads, and
// then asks it, on a connection that it had before, for a lookup. When it goes
// on it must not answer with an index from before the question.
func pauseLeader(ctx context.Context, t *Target) (string, error) {
	leader, others, err := t.roles(ctx)
	if err != nil {
		return "", err
	}
	asked, err := openAsker(ctx, leader.peer)
	if err != nil {
		return "", err
	}
	defer asked.Close()
	var note string
	var least uint64
	evidence, err := t.stopped(ctx, []*supervisor.Peer{leader.peer}, func() error {
		pause, cancel := context.WithTimeout(ctx, t.between(shortestPause, longestPause))
		defer cancel()
		next, err := t.waitLead(pause, others)
		if err == nil {
			note = "; meanwhile " + next.String()
			least, err = lookupIndex(pause, next.peer)
		}
		if err != nil && pause.Err() == nil {
			return err
		}
		if err := asked.send(); err != nil { // whether or not there is a leader
			return err
		}
		<-pause.Done()
		return context.Cause(ctx)
	})
	evidence = leader.String() + "; " + evidence + note
	if err == nil {
		var answer string
		_, answer, err = asked.check(least)
		evidence += "; " + answer
	}
	return t.ended(ctx, evidence, err)
}

// lookupIndex asks a peer for a linearizable answer and returns its index.
func lookupIndex(ctx context.Context, p *supervisor.Peer) (uint64, error) {
	a, err := openAsker(ctx, p)
	if err != nil {
		return 0, err
	}
	defer a.Close()
	return a.index, nil
}

// asker is a connection to a peer's HTTP port on which one request was answered.
type asker struct {
	net.Conn
	reader  *bufio.Reader
	request *http.Request
	index   uint64 // of the first answer
}

// openAsker connects, asks and reads the answer, which must be 200.
func openAsker(ctx context.Context, p *supervisor.Peer) (*asker, error) {
	request, err := http.NewRequest(http.MethodGet, p.URL("/topics"), nil)
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.HTTPAddress())
	if err != nil {
		return nil, err
	}
	a := &asker{Conn: conn, reader: bufio.NewReader(conn), request: request}
	err = a.send()
	if err == nil {
		var code int
		if code, a.index, err = a.receive(); err == nil && code != http.StatusOK {
			err = fmt.Errorf("GET %s: status %d", request.URL, code)
		}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return a, nil
}

func (a *asker) send() error {
	if err := a.SetDeadline(time.Now().Add(healTimeout)); err != nil {
		return err
	}
	return a.request.Write(a)
}

func (a *asker) receive() (code int, index uint64, err error) {
	response, err := http.ReadResponse(a.reader, a.request)
	if err != nil {
		return 0, 0, err
	}
	defer response.Body.Close()
	var body strings.Builder
	if _, err := bufio.NewReader(response.Body).WriteTo(&body); err != nil {
		return 0, 0, err
	}
	if response.StatusCode == http.StatusOK {
		index, err = strconv.ParseUint(response.Header.Get("X-Lookupd-Index"), 10, 64)
	}
	return response.StatusCode, index, err
}

// check reads the answer to what was sent into the socket of a stopped peer: an
// error status, or a state that is at least as new as the index that another
// peer had answered before. It reports whether it was the latter.
func (a *asker) check(least uint64) (current bool, answer string, err error) {
	code, index, err := a.receive()
	switch {
	case err != nil:
		return false, fmt.Sprintf("the lookup in its socket got no answer: %v", err), nil
	case code != http.StatusOK:
		return false, fmt.Sprintf("the lookup in its socket got status %d", code), nil
	case index < least:
		return false, "", fmt.Errorf("%w: a leader that was stopped answered a lookup at index %d, asked after another had answered at %d", ErrViolation, index, least)
	default:
		return true, fmt.Sprintf("the lookup in its socket got index %d, at least %d", index, least), nil
	}
}
