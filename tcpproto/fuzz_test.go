package tcpproto_test

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/tcpproto"
)

// talk sends input and then the end of the connection, and returns all answers.
func talk(t *testing.T, server *tcpproto.Server, input []byte) (answers []string) {
	t.Helper()
	c := dial(t, server)
	defer func() { _ = c.Close() }()
	go func() {
		_, _ = c.Write(input)
		_ = c.CloseWrite()
	}()
	for {
		answer, err := c.frame()
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) && len(input) > 64<<10 {
			return answers
		}
		if err != nil {
			t.Fatalf("after %q: %v", answers, err)
		}
		for _, known := range []string{identityOf, badField} { // what follows is not script's to know
			if strings.HasPrefix(answer, known) {
				answer = known
			}
		}
		answers = append(answers, answer)
	}
}

// unhurried are limits that no number of inputs reaches, however fast they come,
// or slow.
func unhurried() tcpproto.Limits {
	const most, long = 1 << 30, time.Hour
	return tcpproto.Limits{
		Accepts: most, AcceptBurst: most, Commands: most, CommandBurst: most,
		Magic: long, Identify: long, IdentifyPing: long, Line: long, Body: long, Write: long,
	}
}

// FuzzStream sends any bytes. The answers must be those of script, frame for
// frame, then the end of the connection, and the session must have been told
// what was answered OK and nothing else.
func FuzzStream(f *testing.F) {
	fake := &sessions{}
	server := serve(f, fake, unhurried(), nil)
	for _, seed := range []string{
		"  V1", "  V1PING\n", "GET / HTTP/1.1\r\n\r\n", "  V2", "\x16\x03\x01\x02", "  V1 \t\nPING\n", "  V1\nPING\n", "  V1ping\n", "  V1PING\ta\n", "  V1PING a b\r\n",
		"  V1REGISTER t\n", "  V1PING\nREGISTER t", "  V1\u00a0PING\u2003\n",
		"  V1IDENTIFY\n\xff\xff\xff\xff", "  V1IDENTIFY\n\x7f\xff\xff\xff", "  V1IDENTIFY\n\x00\x01\x00\x01", "  V1IDENTIFY\n\x00\x00\x00\x00", "  V1IDENTIFY\n\x00\x00",
		"  V1IDENTIFY\n\x00\x00\x00\x64{", "  V1IDENTIFY x y\n\x00\x00\x00\x02{}", "  V1" + identifyWith(`{"tcp_port":1e3}`),
	} {
		f.Add([]byte(seed))
	}
	for _, seed := range []string{
		"REGISTER t c\nUNREGISTER t c\nUNREGISTER t  c\nPING\n", "IDENTIFY\n\x00\x00", "REGISTER\n", "UNREGISTER \n", "REGISTER  t\n", "REGISTER t  c\n",
		"REGISTER a#ephemeral .\nREGISTER .. -\nPING\n", "REGISTER a#ephemeralx\n", "REGISTER #ephemeral\n", "REGISTER * c\n", "REGISTER a/b\n", "REGISTER \xc3\xbc\n",
		"REGISTER a\x00b\n", "REGISTER " + strings.Repeat("a", 64) + "\nREGISTER " + strings.Repeat("a", 65) + "\n", "REGISTER t *\n", "UNREGISTER t c/d\n",
		"REGISTER t c extra more\r\n", "  REGISTER t c  \n", strings.Repeat("PING\n", 300), strings.Repeat("a", 513), strings.Repeat("a", 512) + "\n",
	} {
		f.Add([]byte("  V1" + identifyWith(nsqd) + seed))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		fake.forget()
		want := read(input)
		if diff := cmp.Diff(want.answers, talk(t, server, input)); diff != "" {
			t.Errorf("answers to %q (-want +got):\n%s", input, diff)
		}
		if diff := cmp.Diff(strings.Join(want.calls, "; "), fake.noted()); diff != "" && !want.endsAfterIdentify {
			t.Errorf("the session was told, by %q (-want +got):\n%s", input, diff)
		}
	})
}

// FuzzIdentify sends any body of an IDENTIFY. A producer that is taken in can be
// committed, is the one that the body names, and has the socket's address.
func FuzzIdentify(f *testing.F) {
	fake := &sessions{}
	server := serve(f, fake, unhurried(), nil)
	with := func(field, value string) []byte {
		return []byte(`{"broadcast_address":"h","tcp_port":1,"http_port":2,"version":"v","` + field + `":` + value + `}`)
	}
	for _, body := range []string{
		nsqd, "", "null", "{}", "[]", `"x"`, "7", "{", "{}x", " {} ", "{}\x00", strings.Repeat("[", 10_001), `{"` + strings.Repeat("k", 2_000) + `":1}`,
	} {
		f.Add([]byte(body))
	}
	for _, field := range [][2]string{
		{"x", "1"},
		{"tcp_port", `"4150"`},
		{"tcp_port", "4150.0"},
		{"tcp_port", "1e3"},
		{"tcp_port", "9223372036854775808"},
		{"tcp_port", "0"},
		{"tcp_port", "-1"},
		{"http_port", "70000"},
		{"http_port", "65535"},
		{"http_port", "null"},
		{"version", `""`},
		{"version", `"` + strings.Repeat("v", 65) + `"`},
		{"version", "1"},
		{"broadcast_address", `"` + strings.Repeat("h", 256) + `"`},
		{"broadcast_address", `"::1"`},
		{"broadcast_address", `"a\u0000b"`},
		{"broadcast_address", "\"\xff\""},
		{"broadcast_address", `"\ud800"`},
		{"BROADCAST_ADDRESS", `"other"`},
		{"broadcast_address", `"last"`},
		{"hostname", `"<script>"`},
		{"hostname", `"\n"`},
		{"hostname", "null"},
		{"remote_address", `"1.2.3.4:5"`},
		{"remote_address", "5"},
		{"topology_zone", `"z"`},
		{"topology_region", `"\u0085"`},
		{"topology_region", `"` + strings.Repeat("ü", 128) + `"`},
	} {
		f.Add(with(field[0], field[1]))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		fake.forget()
		input := "  V1" + identifyWith(string(body)) + "PING\n"
		want := read([]byte(input))
		if diff := cmp.Diff(want.answers, talk(t, server, []byte(input))); diff != "" {
			t.Fatalf("answers to %q (-want +got):\n%s", body, diff)
		}
		if len(want.answers) < 2 { // refused
			if calls := fake.noted(); calls != "" {
				t.Fatalf("refused and told %q", calls)
			}
			return
		}
		checkInfo(t, fake.last(t), want.info)
	})
}

func checkInfo(t *testing.T, got, want registry.ProducerInfo) {
	t.Helper()
	if !strings.HasPrefix(got.RemoteAddress, "127.0.0.1:") {
		t.Errorf("remote address %q", got.RemoteAddress)
	}
	want.RemoteAddress = got.RemoteAddress
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	batch := fsm.Batch{Origin: "a-00000001", Epoch: 1, Number: 1, Commands: []registry.Command{
		registry.OpenSession{Session: registry.SessionID{Node: "a-00000001", Epoch: 1, Seq: 1}, Producer: got},
	}}
	data, err := fsm.EncodeBatch(batch)
	if err != nil {
		t.Fatalf("%+v was taken in and cannot be committed: %v", got, err)
	}
	if again, err := fsm.DecodeBatch(data); err != nil || !cmp.Equal(again, batch) {
		t.Errorf("committed as %+v, %v", again, err)
	}
}

// TestScriptIsNotBlind: the model must tell a good stream from bad ones.
func TestScriptIsNotBlind(t *testing.T) {
	for input, want := range map[string]string{
		"  V1" + identifyWith(nsqd) + "REGISTER t c\nPING\n": "identity OK OK",
		"  V1PING\nFOO\nPING\n":                              "OK E_INVALID invalid command FOO",
		"  V1REGISTER t\n":                                   "E_INVALID client must IDENTIFY",
		"  V1IDENTIFY\n\xff\xff\xff\xfe":                     "E_BAD_BODY IDENTIFY invalid body size -2",
		"  V3":                                               "E_BAD_PROTOCOL",
		"  V":                                                "",
	} {
		answers := read([]byte(input)).answers
		for i, a := range answers {
			if strings.HasPrefix(a, "{") {
				answers[i] = "identity"
			}
		}
		if got := strings.Join(answers, " "); got != want {
			t.Errorf("%q: %q", input, got)
		}
	}
	if !slices.Equal(read([]byte("  V1" + identifyWith(nsqd) + "UNREGISTER t  c\n")).calls[1:], []string{"unregister t/", "close"}) {
		t.Error("calls")
	}
}

// length is a body's, as IDENTIFY sends it.
func length(b []byte) (int, bool) {
	if len(b) < 4 {
		return 0, false
	}
	return int(int32(binary.BigEndian.Uint32(b))), true
}
