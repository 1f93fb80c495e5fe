package e2e_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// settleTime is how long the end of a connection may take to show in answers.
const settleTime = 2 * time.Second

// recordedCase is an exchange that was recorded with a real nsqlookupd.
type recordedCase struct {
	Case  string         `json:"case"`
	Steps []recordedStep `json:"steps"`
}

// recordedStep is one thing the client did, and what came of it.
type recordedStep struct {
	Conn     string `json:"conn"`     // name of a TCP connection, dialled at first use
	Send     string `json:"send"`     // raw bytes
	Identify string `json:"identify"` // IDENTIFY with this body
	Frames   int    `json:"frames"`   // answers to read
	EOF      bool   `json:"eof"`      // then the server closes
	Close    bool   `json:"close"`    // the client closes
	HTTP     string `json:"http"`     // METHOD target
	Keep     string `json:"keep"`     // keep only list items with this text
	Saw      saw    `json:"saw"`
}

// saw is what came back. Body is decoded JSON or text.
type saw struct {
	Frames []string          `json:"frames,omitempty"`
	EOF    bool              `json:"eof,omitempty"`
	Status int               `json:"status,omitempty"`
	Header map[string]string `json:"header,omitempty"`
	Body   any               `json:"body,omitempty"`
}

func readCases(t *testing.T) []recordedCase {
	t.Helper()
	text, err := os.ReadFile("testdata/nsqlookupd.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []recordedCase
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	const least = 70
	if len(cases) < least {
		t.Fatalf("only %d cases", len(cases))
	}
	return cases
}

// target is a daemon, or several that must act as one: each new connection and
// each request goes to the next.
type target struct {
	tcp, http []string
	turn      int
	// noTopology drops the zone and region keys, which nsqlookupd 1.3.0 lacks.
	noTopology bool
}

func (d *target) next(addresses []string) string {
	d.turn++
	return addresses[d.turn%len(addresses)]
}

func TestConformanceOfNSQLookupd(t *testing.T) {
	// Shows that the replayer is right: the real thing passes.
	tcp, http := oracle(t)
	replayAll(t, &target{tcp: []string{tcp}, http: []string{http}, noTopology: true})
}

func TestConformanceOfOnePeer(t *testing.T) {
	c := newWorld(t).cluster(1)
	replayAll(t, &target{tcp: c.TCPAddresses(), http: c.HTTPAddresses()})
}

func TestConformanceOfThreePeersInTurn(t *testing.T) {
	c := newWorld(t).cluster(3)
	replayAll(t, &target{tcp: c.TCPAddresses(), http: c.HTTPAddresses()})
}

func replayAll(t *testing.T, d *target) {
	t.Helper()
	for _, c := range readCases(t) {
		t.Run(c.Case, func(t *testing.T) { newReplay(d).run(t, c) })
	}
}

// replay is the run of one case.
type replay struct {
	target *target
	names  map[string]string // placeholder -> name of this run
	conns  map[string]*v1Conn
	ended  time.Time // when a connection last ended, zero if none did
}

func newReplay(d *target) *replay {
	id := fmt.Sprintf("%08x", rand.Uint32())
	return &replay{
		target: d,
		names:  map[string]string{"{t}": "t" + id + "t", "{u}": "u" + id + "u", "{p}": "p" + id + "p"},
		conns:  map[string]*v1Conn{},
	}
}

func (r *replay) run(t *testing.T, c recordedCase) {
	t.Helper()
	defer r.cleanUp(t)
	for i, step := range c.Steps {
		got, err := r.step(step)
		if err != nil {
			t.Fatalf("step %d, %s: %v", i, describe(step), err)
		}
		want := step.Saw
		want.Body = r.normal(want.Body, "")
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("step %d, %s:\n got %s\nwant %s", i, describe(step), mustJSON(got), mustJSON(want))
		}
	}
}

// step does one step. A GET after the end of a connection is repeated for a
// while if its answer is not the recorded one: that the end is known takes as
// long as the daemon likes.
func (r *replay) step(step recordedStep) (saw, error) {
	if step.HTTP == "" {
		return r.tcpStep(step)
	}
	for {
		got, err := r.httpStep(step)
		want := step.Saw
		want.Body = r.normal(want.Body, "")
		if err != nil || time.Since(r.ended) > settleTime || !strings.HasPrefix(step.HTTP, "GET ") || reflect.DeepEqual(got, want) {
			return got, err
		}
	}
}

func (r *replay) tcpStep(step recordedStep) (saw, error) {
	conn := r.conns[step.Conn]
	if conn == nil {
		var err error
		if conn, err = dialV1(r.target.next(r.target.tcp)); err != nil {
			return saw{}, err
		}
		r.conns[step.Conn] = conn
	}
	if step.Close {
		r.ended = time.Now()
		return saw{}, conn.Close()
	}
	bytes := r.fill(step.Send)
	if step.Identify != "" {
		bytes = identifyCommand(r.fill(step.Identify))
	}
	if err := conn.send(bytes); err != nil {
		return saw{}, err
	}
	var got saw
	for range step.Frames {
		frame, err := conn.frame()
		if err != nil {
			return got, err
		}
		got.Frames = append(got.Frames, r.normalFrame(frame))
	}
	if step.EOF {
		if err := conn.ended(); err != nil {
			return got, err
		}
		got.EOF = true
		r.ended = time.Now()
	}
	return got, nil
}

func (r *replay) httpStep(step recordedStep) (saw, error) {
	answer, err := rawHTTP(r.target.next(r.target.http), r.fill(step.HTTP))
	if err != nil {
		return saw{}, err
	}
	got := saw{Status: answer.status, Header: map[string]string{}}
	for _, name := range []string{"Content-Type", "X-NSQ-Content-Type", "Location", "Allow"} {
		if value := answer.header.Get(name); value != "" {
			got.Header[name] = r.empty(value)
		}
	}
	text := r.empty(answer.body)
	if json.Unmarshal([]byte(text), &got.Body) != nil {
		got.Body = text
	}
	got.Body = r.normal(got.Body, step.Keep)
	return got, nil
}

// fill puts this run's names for the placeholders, empty does the opposite.
func (r *replay) fill(text string) string {
	for placeholder, name := range r.names {
		text = strings.ReplaceAll(text, placeholder, name)
	}
	return text
}

func (r *replay) empty(text string) string {
	for placeholder, name := range r.names {
		text = strings.ReplaceAll(text, name, placeholder)
	}
	return text
}

// normalFrame returns a frame as the recording has it: of the answer to
// IDENTIFY the keys with their types.
func (r *replay) normalFrame(frame string) string {
	var object map[string]any
	if json.Unmarshal([]byte(frame), &object) != nil {
		return r.empty(frame)
	}
	var keys []string
	for key, value := range object {
		keys = append(keys, fmt.Sprintf("%s:%T", key, value))
	}
	slices.Sort(keys)
	return strings.Join(keys, " ")
}

// normal returns a decoded body without what differs from run to run, its lists
// sorted and, if keep is not empty, without items that lack it.
func (r *replay) normal(body any, keep string) any {
	switch body := body.(type) {
	case map[string]any:
		return r.normalObject(body, keep)
	case []any:
		kept := []any{}
		for _, item := range body {
			if strings.Contains(mustJSON(item), keep) {
				kept = append(kept, r.normal(item, keep))
			}
		}
		slices.SortFunc(kept, func(a, b any) int { return cmp.Compare(mustJSON(a), mustJSON(b)) })
		return kept
	}
	return body
}

func (r *replay) normalObject(object map[string]any, keep string) any {
	object = maps.Clone(object)
	for key, value := range object {
		switch key {
		case "remote_address", "id":
			object[key] = "REMOTE"
		case "last_update", "tombstoned_at":
			object[key] = "TIME"
		case "version":
			if len(object) == 1 {
				object[key] = "VERSION"
			}
		case "topology_zone", "topology_region":
			if r.target.noTopology {
				delete(object, key)
			}
		default:
			object[key] = r.normal(value, keep)
		}
	}
	return object
}

// cleanUp leaves the daemon without this case's connections and topics.
func (r *replay) cleanUp(t *testing.T) {
	t.Helper()
	for _, conn := range r.conns {
		_ = conn.Close() // may be closed already
	}
	for _, topic := range []string{"{t}", "{u}", "{t}#ephemeral"} {
		answer, err := rawHTTP(r.target.next(r.target.http), "POST /topic/delete?topic="+url.QueryEscape(r.fill(topic)))
		if err != nil || answer.status != 200 {
			t.Errorf("delete %s: %d %v", topic, answer.status, err)
		}
	}
}

// describe says what a step does.
func describe(step recordedStep) string {
	step.Saw = saw{}
	return mustJSON(step)
}
