package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// maxDocument bounds an answer: lists of 100,000 topics stay far below.
const maxDocument = 64 << 20

// answer is what a peer said.
type answer struct {
	address string
	status  int
	header  http.Header
	body    []byte
}

// get asks the addresses in order until one answers something other than an
// error of its own: what 200 and 404 say is final, a peer without a quorum may
// have a neighbour with one.
func (o *options) get(ctx context.Context, path string) (answer, error) {
	return o.ask(ctx, http.MethodGet, path, nil)
}

// change is get for a request that changes something. The next address is tried
// only when the last surely did nothing, or says that it is done once or not at
// all.
func (o *options) change(ctx context.Context, method, path string, body []byte) (answer, error) {
	return o.ask(ctx, method, path, body)
}

// notReached is the error of a request for which there was no connection, TLS
// included: the peer surely did nothing.
type notReached struct{ error }

func (e notReached) Unwrap() error { return e.error }

// ask gives each address its share of the time to be reached. A change may then
// take all that is left, for it cannot be begun again elsewhere.
func (o *options) ask(ctx context.Context, method, path string, body []byte) (answer, error) {
	deadline := time.Now().Add(o.timeout)
	var last answer
	var errs []error
	for i, address := range o.addresses {
		left := time.Until(deadline)
		share, within := left/time.Duration(len(o.addresses)-i), left
		if method == http.MethodGet {
			within = share
		}
		a, err := o.askOne(ctx, method, address, path, body, share, within)
		switch {
		case err != nil && method != http.MethodGet && !errors.As(err, new(notReached)):
			return answer{}, fmt.Errorf("%w; it may have been done", err)
		case err != nil:
			errs = append(errs, err)
		case a.status >= http.StatusInternalServerError:
			last = a
		default:
			return a, nil
		}
	}
	if last.status != 0 {
		return last, nil
	}
	return answer{}, fmt.Errorf("no peer answers: %w; is lookupd running there? -a names other addresses", errors.Join(errs...))
}

// open sends one request and returns its answer with the body still to be read.
func (o *options) open(ctx context.Context, method, address, path string, body []byte) (*http.Response, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(address, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, usageError{err}
	}
	if o.token != "" {
		request.Header.Set("Authorization", "Bearer "+o.token)
	}
	if len(body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	return o.client.Do(request)
}

// newClient returns a client that trusts the authorities in a file, "" for those
// of the system.
func newClient(caFile string) (*http.Client, error) {
	if caFile == "" {
		return http.DefaultClient, nil
	}
	text, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", caFile)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	return &http.Client{Transport: transport}, nil
}

func (o *options) askOne(ctx context.Context, method, address, path string, body []byte, reachWithin, within time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	late := time.AfterFunc(reachWithin, func() { giveUp(errors.New("no connection in time")) })
	defer late.Stop()
	var reached atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		late.Stop()
		reached.Store(true)
	}})
	response, err := o.open(ctx, method, address, path, body)
	if err != nil && !reached.Load() {
		return answer{}, notReached{err}
	}
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxDocument))
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", address, err)
	}
	return answer{address: address, status: response.StatusCode, header: response.Header, body: text}, nil
}

// failure turns an answer that is not 200 into an error with the exit code that
// it deserves. The legacy routes tell a word in message, those under /v1/ in
// code.
func (a answer) failure() error {
	var document struct{ Code, Message, Hint string }
	_ = json.Unmarshal(a.body, &document) // an answer without a message is shown by its status
	word, text := document.Code, document.Message
	if word == "" {
		word, text = document.Message, ""
	}
	switch word {
	case "NO_QUORUM":
		return exitError{exitNoQuorum, a.address + " has no quorum: it cannot vouch for an answer, and a change is made or not; lookupctl status says which peers are missing, --stale shows what it has"}
	case "TLS_REQUIRED":
		return fmt.Errorf("%s speaks TLS: give it as -a https://..., and --ca-file if the system does not know its authority", a.address)
	case "UNAUTHORIZED":
		return fmt.Errorf("%s wants a token: --token-file names a file with one of its -lookup-token-file or -admin-token-file", a.address)
	case "NOT_READY":
		return exitError{exitFailed, a.address + " is starting and has not caught up yet; ask again, or another peer with -a"}
	case "":
		return fmt.Errorf("%s answered %d", a.address, a.status)
	}
	if text == "" {
		return fmt.Errorf("%s answered %d %s", a.address, a.status, word)
	}
	return fmt.Errorf("%s: %s\n%s", word, text, document.Hint)
}

// document gets a path and decodes the answer; of says what it should be.
func (o *options) document(ctx context.Context, path, of string, into any) (answer, error) {
	a, err := o.get(ctx, path)
	if err != nil {
		return a, err
	}
	if a.status != http.StatusOK {
		return a, a.failure()
	}
	return a, a.decode(of, into)
}

func (a answer) decode(of string, into any) error {
	if err := json.Unmarshal(a.body, into); err != nil {
		return fmt.Errorf("%s: not %s: %w", a.address, of, err)
	}
	return nil
}

// printAge tells how old a stale answer may be.
func (o *options) printAge(a answer) {
	if age := a.header.Get("X-Lookupd-Stale-Ms"); age != "" {
		fmt.Fprintf(o.err, "Stale: at most %s ms old.\n", age)
	}
}

// printJSON prints a document as it came.
func (o *options) printJSON(a answer) { fmt.Fprintf(o.out, "%s\n", bytes.TrimSpace(a.body)) }
