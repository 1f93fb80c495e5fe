package e2e_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "seed of the differential test; 0 takes a new one")
	stepsFlag = flag.Int("steps", 4000, "steps of the differential test")
)

const shortSteps = 500

// TestDifferential sends one random stream of valid and invalid commands and
// requests to nsqlookupd 1.3.0 and to lookupd, each command to the next of three
// peers, and wants the same answers. The stream leaves out what DESIGN.md lists
// as a difference; generator_test.go says where.
func TestDifferential(t *testing.T) {
	steps := *stepsFlag
	if testing.Short() {
		steps = min(steps, shortSteps)
	}
	watch := watchPauses(t)
	for attempt := 1; ; attempt++ {
		w := newWorld(t)
		c := w.cluster(3, "-tombstone-lifetime", "1h", "-inactive-producer-timeout", "1h")
		err := runDifferential(t, steps, &target{tcp: c.TCPAddresses(), http: c.HTTPAddresses(), noTopology: true})
		if err == nil {
			return
		}
		if attempt == attempts || !errors.Is(err, errUnavailable) || !watch.excuse(err.Error()) {
			t.Fatal(err)
		}
		must(t, w.KillAll())
	}
}

// TestDifferentialOfTwoNSQLookupds shows that the stream has one right answer.
func TestDifferentialOfTwoNSQLookupds(t *testing.T) {
	tcp, address := oracle(t)
	must(t, runDifferential(t, *stepsFlag, &target{tcp: []string{tcp}, http: []string{address}, noTopology: true}))
}

// errUnavailable is an answer that nsqlookupd does not have: no majority in time.
var errUnavailable = errors.New("lookupd is not available")

// runDifferential returns the first difference.
func runDifferential(t *testing.T, steps int, other *target) error {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with: go test -run %s -seed %d -steps %d", t.Name(), seed, steps)
	tcp, address := oracle(t)
	d := &differential{
		gen:  newGenerator(seed),
		want: newSide(&target{tcp: []string{tcp}, http: []string{address}, noTopology: true}),
		got:  newSide(other),
	}
	defer d.close()
	for d.step = range steps {
		if err := d.one(d.gen.next()); err != nil {
			return err
		}
	}
	return d.compareState("at the end")
}

// differential is one run.
type differential struct {
	gen       *generator
	want, got *side
	step      int
	history   []string // the last few actions, for messages
}

// side is one of the two daemons.
type side struct {
	*replay
	conns map[int]*v1Conn
}

func newSide(d *target) *side {
	return &side{replay: &replay{target: d}, conns: map[int]*v1Conn{}}
}

// action is one thing to do to both sides.
type action struct {
	slot     int    // which connection, -1 for HTTP
	open     string // sent first if the connection is new: magic and IDENTIFY
	send     string
	answers  int  // frames that are due, unless one closes the connection
	halfEnd  bool // the client ends its direction after sending
	hangUp   bool // the client closes
	request  string
	samePeer bool // the request always goes to the first peer
}

func (a action) String() string {
	switch {
	case a.slot < 0:
		return a.request
	case a.hangUp:
		return fmt.Sprintf("conn %d: close", a.slot)
	}
	return fmt.Sprintf("conn %d: %q", a.slot, a.open+a.send)
}

// one does an action on both sides and compares.
func (d *differential) one(a action) error {
	const remembered = 25
	d.history = append(d.history, a.String())
	d.history = d.history[max(0, len(d.history)-remembered):]
	want, wantErr := d.want.do(a)
	got, gotErr := d.got.do(a)
	if wantErr != nil {
		return d.differs("nsqlookupd: %w", wantErr)
	}
	if got.Status == http.StatusServiceUnavailable || slices.ContainsFunc(got.Frames, func(f string) bool { return strings.HasPrefix(f, "E_UNAVAILABLE") }) {
		return d.differs("%w: %s", errUnavailable, mustJSON(got))
	}
	if gotErr != nil {
		return d.differs("lookupd: %w; nsqlookupd: %s", gotErr, mustJSON(want))
	}
	if !reflect.DeepEqual(got, want) {
		return d.differs("\n   lookupd %s\nnsqlookupd %s", mustJSON(got), mustJSON(want))
	}
	if a.slot >= 0 && (want.EOF || a.hangUp) {
		d.gen.ended(a.slot)
		return d.compareState("after the end of a connection")
	}
	return nil
}

func (d *differential) differs(format string, values ...any) error {
	return fmt.Errorf("step %d: %w\nlast actions:\n  %s", d.step, fmt.Errorf(format, values...), strings.Join(d.history, "\n  "))
}

// compareState waits until both sides know the same: neither says when it has
// noticed the end of a connection.
func (d *differential) compareState(when string) error {
	deadline := time.Now().Add(answerTimeout)
	for _, request := range []string{"GET /nodes", "GET /topics", "GET /debug"} {
		for {
			want, wantErr := d.want.do(action{slot: -1, request: request})
			got, gotErr := d.got.do(action{slot: -1, request: request})
			if wantErr == nil && gotErr == nil && reflect.DeepEqual(got, want) {
				break
			}
			if time.Now().After(deadline) {
				return d.differs("%s, %s:\n   lookupd %s %v\nnsqlookupd %s %v", when, request, mustJSON(got), gotErr, mustJSON(want), wantErr)
			}
		}
	}
	return nil
}

func (d *differential) close() {
	for _, s := range []*side{d.want, d.got} {
		for _, c := range s.conns {
			_ = c.Close() // may be closed already
		}
	}
}

// do does an action on one side.
func (s *side) do(a action) (saw, error) {
	if a.slot < 0 {
		if a.samePeer {
			s.target.turn = -1
		}
		return s.httpStep(recordedStep{HTTP: a.request})
	}
	conn := s.conns[a.slot]
	if a.open != "" {
		var err error
		if conn, err = dialV1(s.target.tcp[a.slot%len(s.target.tcp)]); err != nil {
			return saw{}, err
		}
		s.conns[a.slot] = conn
	}
	if a.hangUp {
		return saw{}, conn.Close()
	}
	if err := conn.send(a.open + a.send); err != nil {
		return saw{}, err
	}
	if a.halfEnd {
		if half, ok := conn.Conn.(interface{ CloseWrite() error }); ok {
			if err := half.CloseWrite(); err != nil {
				return saw{}, err
			}
		}
	}
	return s.readFrames(conn, a)
}

// readFrames reads the answers that are due; after an error the server closes.
func (s *side) readFrames(conn *v1Conn, a action) (saw, error) {
	var got saw
	for range a.answers {
		frame, err := conn.frame()
		if err != nil {
			return got, fmt.Errorf("after %q: %w", got.Frames, err)
		}
		got.Frames = append(got.Frames, s.normalFrame(frame))
		if strings.HasPrefix(frame, "E_") {
			got.EOF = true
			break
		}
	}
	if a.halfEnd && !got.EOF {
		got.EOF = true
	}
	if !got.EOF {
		return got, nil
	}
	if err := conn.ended(); err != nil && err != io.EOF {
		return got, fmt.Errorf("after %q: %w", got.Frames, err)
	}
	return got, conn.Close()
}

func TestGeneratorIsRepeatable(t *testing.T) {
	draw := func() []string {
		g := newGenerator(1)
		var all []string
		for range 200 {
			all = append(all, g.next().String())
		}
		return all
	}
	if a, b := draw(), draw(); !slices.Equal(a, b) {
		t.Error("one seed gives two streams")
	}
	if text, err := json.Marshal(draw()); err != nil || len(text) == 0 {
		t.Error(err)
	}
}
