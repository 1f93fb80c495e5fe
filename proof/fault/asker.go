package fault

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// waitIndex waits until one of these peers leads and answers a lookup, and
// returns the index of the answer.
func (t *Target) waitIndex(ctx context.Context, among []*supervisor.Peer) (l lead, index uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	err = supervisor.Poll(ctx, func(ctx context.Context) (err error) {
		if l, err = t.waitLead(ctx, among); err != nil {
			return err
		}
		a, err := openAsker(ctx, l.peer)
		if err != nil {
			return err
		}
		index = a.index
		return a.Close()
	})
	return l, index, err
}

// openAskers opens some at the leader, anew if it ceases to lead meanwhile.
func (t *Target) openAskers(ctx context.Context, n int) (l lead, askers []*asker, err error) {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	err = supervisor.Poll(ctx, func(ctx context.Context) (err error) {
		closeAll(askers)
		askers = nil
		if l, err = t.waitLead(ctx, nil); err != nil {
			return err
		}
		for range n {
			a, err := openAsker(ctx, l.peer)
			if err != nil {
				return err
			}
			askers = append(askers, a)
		}
		return nil
	})
	if err != nil {
		closeAll(askers)
	}
	return l, askers, err
}

func closeAll(askers []*asker) {
	for _, a := range askers {
		a.Close()
	}
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
