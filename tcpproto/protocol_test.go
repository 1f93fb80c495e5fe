package tcpproto_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/session"
	"github.com/lookupd/lookupd/tcpproto"
)

func repeat(n int) string { return strings.Repeat("x", n) }

// TestUnidentified sends all at once on a new connection.
func TestUnidentified(t *testing.T) {
	longest := strings.Repeat("f", 512)
	for name, test := range map[string]struct {
		send    string
		answers []string
		stays   bool // the connection
	}{
		"T19 other version":      {"  V2", []string{"E_BAD_PROTOCOL"}, false},
		"T19 HTTP":               {"GET / HTTP/1.1\r\n\r\n", []string{"E_BAD_PROTOCOL"}, false},
		"T19 TLS hello":          {"\x16\x03\x01\x02\x00\x01\x00", []string{"E_BAD_PROTOCOL"}, false},
		"T18 PING":               {"  V1PING\n", []string{"OK"}, true},
		"ping with arguments":    {"  V1PING a b\nPING\n", []string{"OK", "OK"}, true},
		"T29 outer white space":  {"  V1 \t PING \u00a0\r\n", []string{"OK"}, true},
		"T23 empty line":         {"  V1\n", []string{"E_INVALID invalid command "}, false},
		"T23 blanks":             {"  V1   \n", []string{"E_INVALID invalid command "}, false},
		"T23 lower case":         {"  V1ping\n", []string{"E_INVALID invalid command ping"}, false},
		"T23 unknown":            {"  V1FOO x\n", []string{"E_INVALID invalid command FOO"}, false},
		"T23 tab as separator":   {"  V1REGISTER\tt\n", []string{"E_INVALID invalid command REGISTER\tt"}, false},
		"raw bytes":              {"  V1\xff\x00\n", []string{"E_INVALID invalid command \xff\x00"}, false},
		"nothing after an error": {"  V1PING\nFOO\nPING\n", []string{"OK", "E_INVALID invalid command FOO"}, false},
		"T17 REGISTER":           {"  V1REGISTER t\n", []string{"E_INVALID client must IDENTIFY"}, false},
		"T17 REGISTER alone":     {"  V1REGISTER\n", []string{"E_INVALID client must IDENTIFY"}, false},
		"T17 UNREGISTER":         {"  V1UNREGISTER * c\n", []string{"E_INVALID client must IDENTIFY"}, false},
		"T21 512 bytes":          {"  V1" + longest + "\n", []string{"E_INVALID invalid command " + longest}, false},
		"T21 513 bytes":          {"  V1" + longest + "f\n", []string{"E_INVALID line is longer than 512 bytes"}, false},
		"T21 no end":             {"  V1" + longest + longest, []string{"E_INVALID line is longer than 512 bytes"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sessions{}
			c := dial(t, serve(t, s, tcpproto.Limits{}, nil))
			c.send(test.send)
			c.want(test.answers...)
			if test.stays {
				c.send("PING\n")
				c.want("OK")
			} else {
				c.wantEnd()
			}
			if got := s.noted(); got != "" {
				t.Errorf("sessions were told %q", got)
			}
		})
	}
}

// TestIdentified sends lines after IDENTIFY.
func TestIdentified(t *testing.T) {
	bad := func(code, command, what, name string) []string {
		return []string{fmt.Sprintf("%s %s %s name '%s' is not valid", code, command, what, name)}
	}
	for name, test := range map[string]struct {
		send    string
		answers []string
		calls   string // what the session is told
		stays   bool
	}{
		"topic":               {"REGISTER t\n", []string{"OK"}, "register t/", true},
		"channel":             {"REGISTER t c\n", []string{"OK"}, "register t/c", true},
		"T29 extra words":     {"REGISTER t c x y\n", []string{"OK"}, "register t/c", true},
		"T29 carriage return": {"REGISTER t c\r\n", []string{"OK"}, "register t/c", true},
		"T25 REGISTER t  c":   {"REGISTER t  c\n", []string{"OK"}, "register t/", true},
		"unregister topic":    {"UNREGISTER t\n", []string{"OK"}, "unregister t/", true},
		"unregister channel":  {"UNREGISTER t c extra\n", []string{"OK"}, "unregister t/c", true},
		"T25 UNREGISTER t  c": {"UNREGISTER t  c\n", []string{"OK"}, "unregister t/", true},
		"ping":                {"PING\nPING x\n", []string{"OK", "OK"}, "ping; ping", true},
		"pipelined": {
			"REGISTER t a\nREGISTER t b\nPING\nUNREGISTER t a\n",
			[]string{"OK", "OK", "OK", "OK"},
			"register t/a; register t/b; ping; unregister t/a", true,
		},
		"T27 odd names": {
			"REGISTER . ..\nREGISTER - _\nREGISTER a#ephemeral b#ephemeral\nREGISTER " + repeat(64) + " " + repeat(54) + "#ephemeral\n",
			[]string{"OK", "OK", "OK", "OK"},
			"register ./..; register -/_; register a#ephemeral/b#ephemeral; register " + repeat(64) + "/" + repeat(54) + "#ephemeral", true,
		},
		"T24 REGISTER alone":          {"REGISTER\n", []string{"E_INVALID REGISTER insufficient number of params"}, "", false},
		"T24 REGISTER and a blank":    {"REGISTER \n", []string{"E_INVALID REGISTER insufficient number of params"}, "", false},
		"T24 UNREGISTER alone":        {"UNREGISTER\n", []string{"E_INVALID UNREGISTER insufficient number of params"}, "", false},
		"T25 REGISTER  t":             {"REGISTER  t\n", bad("E_BAD_TOPIC", "REGISTER", "topic", ""), "", false},
		"T26 65 bytes":                {"REGISTER " + repeat(65) + "\n", bad("E_BAD_TOPIC", "REGISTER", "topic", repeat(65)), "", false},
		"T26 star":                    {"REGISTER *\n", bad("E_BAD_TOPIC", "REGISTER", "topic", "*"), "", false},
		"T26 slash":                   {"REGISTER a/b\n", bad("E_BAD_TOPIC", "REGISTER", "topic", "a/b"), "", false},
		"T26 umlaut":                  {"UNREGISTER ü\n", bad("E_BAD_TOPIC", "UNREGISTER", "topic", "ü"), "", false},
		"T26 NUL":                     {"REGISTER a\x00\n", bad("E_BAD_TOPIC", "REGISTER", "topic", "a\x00"), "", false},
		"T26 bad UTF-8":               {"REGISTER a\xff\n", bad("E_BAD_TOPIC", "REGISTER", "topic", "a\xff"), "", false},
		"T26 only ephemeral":          {"REGISTER #ephemeral\n", bad("E_BAD_TOPIC", "REGISTER", "topic", "#ephemeral"), "", false},
		"T26 ephemeral inside":        {"UNREGISTER a#ephemeralx\n", bad("E_BAD_TOPIC", "UNREGISTER", "topic", "a#ephemeralx"), "", false},
		"T26 65 bytes with ephemeral": {"REGISTER " + repeat(55) + "#ephemeral\n", bad("E_BAD_TOPIC", "REGISTER", "topic", repeat(55)+"#ephemeral"), "", false},
		"T28 65 bytes":                {"REGISTER t " + repeat(65) + "\n", bad("E_BAD_CHANNEL", "REGISTER", "channel", repeat(65)), "", false},
		"T28 star":                    {"UNREGISTER t *\n", bad("E_BAD_CHANNEL", "UNREGISTER", "channel", "*"), "", false},
		"T28 only ephemeral":          {"REGISTER t #ephemeral\n", bad("E_BAD_CHANNEL", "REGISTER", "channel", "#ephemeral"), "", false},
		"topic is looked at first":    {"REGISTER * *\n", bad("E_BAD_TOPIC", "REGISTER", "topic", "*"), "", false},
		"T29 outer blanks":            {" \t REGISTER t c \t\r\n", []string{"OK"}, "register t/c", true},
		"T16 its body is not read":    {identifyWith(nsqd) + "PING\n", []string{"E_INVALID cannot IDENTIFY again"}, "", false},
		"T16 a line follows":          {"IDENTIFY\nPING\n", []string{"E_INVALID cannot IDENTIFY again"}, "", false},
		"what came before an error":   {"REGISTER t\nFOO\n", []string{"OK", "E_INVALID invalid command FOO"}, "register t/", false},
		"last line without its end":   {"PING\nREGISTER t", []string{"OK"}, "ping", false},
		"nothing after a bad answer":  {"REGISTER *\nREGISTER t\n", bad("E_BAD_TOPIC", "REGISTER", "topic", "*"), "", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sessions{}
			c := identified(t, serve(t, s, tcpproto.Limits{}, nil))
			c.send(test.send)
			c.want(test.answers...)
			want := strings.TrimSuffix("open h:4150; "+test.calls, "; ")
			if test.stays {
				if got := s.noted(); got != want {
					t.Errorf("the session was told %q, want %q", got, want)
				}
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			c.wantEnd()
			eventually(t, want+"; close", func() bool { return s.noted() == want+"; close" })
		})
	}
}

func TestBadIdentify(t *testing.T) {
	const (
		undecoded = "E_BAD_BODY IDENTIFY failed to decode JSON body"
		missing   = "E_BAD_BODY IDENTIFY missing fields"
		noSize    = "E_BAD_BODY IDENTIFY failed to read body size"
		noBody    = "E_BAD_BODY IDENTIFY failed to read body"
	)
	with := func(key, value string) string {
		fields := map[string]string{
			"broadcast_address": `"h"`, "hostname": `"n"`, "tcp_port": "4150", "http_port": "4151", "version": `"1"`,
		}
		fields[key] = value
		var all []string
		for k, v := range fields {
			if v != "" {
				all = append(all, fmt.Sprintf("%q:%s", k, v))
			}
		}
		return identifyWith("{" + strings.Join(all, ",") + "}")
	}
	tests := map[string]struct{ send, answer string }{
		"T1 length -1":                      {"IDENTIFY\n\xff\xff\xff\xff", "E_BAD_BODY IDENTIFY invalid body size -1"},
		"T1 least length":                   {"IDENTIFY\n\x80\x00\x00\x00", "E_BAD_BODY IDENTIFY invalid body size -2147483648"},
		"T2 64 KiB + 1":                     {"IDENTIFY\n\x00\x01\x00\x01", "E_BAD_BODY IDENTIFY invalid body size 65537"},
		"T2 greatest length":                {"IDENTIFY\n\x7f\xff\xff\xff", "E_BAD_BODY IDENTIFY invalid body size 2147483647"},
		"T3 length 0":                       {identifyWith(""), undecoded},
		"T6 no length":                      {"IDENTIFY\n", noSize},
		"T6 half a length":                  {"IDENTIFY\n\x00\x00", noSize},
		"T4 no body":                        {"IDENTIFY\n\x00\x00\x00\x64", noBody},
		"T4 half a body":                    {"IDENTIFY\n\x00\x00\x00\x64" + repeat(40), noBody},
		"T7 not JSON":                       {identifyWith(`{"broadcast_address":`), undecoded},
		"T7 array":                          {identifyWith(`[]`), undecoded},
		"T7 text":                           {identifyWith(`"x"`), undecoded},
		"T7 number":                         {identifyWith(`7`), undecoded},
		"trailing text":                     {identifyWith(nsqd + "x"), undecoded},
		"T11 10,001 nested arrays":          {identifyWith(strings.Repeat("[", 10_001)), undecoded},
		"T11 10,001 nested arrays in a key": {with("x", strings.Repeat("[", 10_001)+strings.Repeat("]", 10_001)), undecoded},
		"T7 null":                           {identifyWith(`null`), missing},
		"T7 empty object":                   {identifyWith(`{}`), missing},
		"with arguments":                    {"IDENTIFY x y\n\x00\x00\x00\x02{}", missing},
		"T9 port as text":                   {with("tcp_port", `"4150"`), undecoded},
		"T9 port with a point":              {with("tcp_port", `4150.0`), undecoded},
		"T9 port with an exponent":          {with("http_port", `1e3`), undecoded},
		"T9 port 2^63":                      {with("http_port", `9223372036854775808`), undecoded},
		"address as number":                 {with("broadcast_address", `7`), undecoded},
		"remote as number":                  {with("remote_address", `7`), undecoded},
		"T10 port -1":                       {with("tcp_port", `-1`), "E_BAD_BODY IDENTIFY invalid field tcp_port: -1 is not a port"},
		"T10 port 70000":                    {with("http_port", `70000`), "E_BAD_BODY IDENTIFY invalid field http_port: 70000 is not a port"},
		"T13 control character":             {with("hostname", `"a\nb"`), "E_BAD_BODY IDENTIFY invalid field hostname: control character"},
		"T14 long address":                  {with("broadcast_address", `"`+repeat(256)+`"`), "E_BAD_BODY IDENTIFY invalid field broadcast_address: more than 255 bytes"},
		"T14 long hostname":                 {with("hostname", `"`+repeat(256)+`"`), "E_BAD_BODY IDENTIFY invalid field hostname: more than 255 bytes"},
		"T14 long version":                  {with("version", `"`+repeat(65)+`"`), "E_BAD_BODY IDENTIFY invalid field version: more than 64 bytes"},
	}
	for _, key := range []string{"broadcast_address", "tcp_port", "http_port", "version"} {
		tests["T8 without "+key] = struct{ send, answer string }{with(key, ""), missing}
		tests["T8 null "+key] = struct{ send, answer string }{with(key, "null"), missing}
		zero := `""`
		if strings.HasSuffix(key, "port") {
			zero = "0"
		}
		tests["T8 zero "+key] = struct{ send, answer string }{with(key, zero), missing}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := &sessions{}
			c := dial(t, serve(t, s, tcpproto.Limits{}, nil))
			c.send("  V1" + test.send)
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			c.want(test.answer)
			c.wantEnd()
			if got := s.noted(); got != "" {
				t.Errorf("sessions were told %q", got)
			}
		})
	}
}

func TestIdentify(t *testing.T) {
	full := registry.ProducerInfo{
		Hostname: "n", BroadcastAddress: "h", TCPPort: 4150, HTTPPort: 4151, Version: "1.3.0",
	}
	with := func(change func(*registry.ProducerInfo)) registry.ProducerInfo {
		info := full
		change(&info)
		return info
	}
	for name, test := range map[string]struct {
		body string
		want registry.ProducerInfo
	}{
		"as nsqd": {nsqd, full},
		"zone and region": {
			strings.Replace(nsqd, "{", `{"topology_zone":"z","topology_region":"r",`, 1),
			with(func(p *registry.ProducerInfo) { p.TopologyZone, p.TopologyRegion = "z", "r" }),
		},
		"no hostname":          {strings.Replace(nsqd, `"hostname":"n",`, "", 1), with(func(p *registry.ProducerInfo) { p.Hostname = "" })},
		"T12 other case":       {strings.Replace(nsqd, "tcp_port", "TCP_Port", 1), full},
		"T12 unknown key":      {strings.Replace(nsqd, "{", `{"colour":{"a":[1,null]},`, 1), full},
		"T11 a key of 60 KB":   {strings.Replace(nsqd, "{", `{"`+repeat(60_000)+`":1,`, 1), full},
		"T12 last repeat wins": {strings.Replace(nsqd, "{", `{"hostname":"first",`, 1), full},
		"T15 remote address":   {strings.Replace(nsqd, "{", `{"remote_address":"1.2.3.4:5",`, 1), full},
		"T13 bad UTF-8":        {strings.Replace(nsqd, `"n"`, "\"n\xff\"", 1), with(func(p *registry.ProducerInfo) { p.Hostname = "n\ufffd" })},
		"T13 markup":           {strings.Replace(nsqd, `"n"`, `"<script>"`, 1), with(func(p *registry.ProducerInfo) { p.Hostname = "<script>" })},
		"blanks":               {" \n" + nsqd + " \t", full},
		"64 KiB":               {nsqd + strings.Repeat(" ", 64<<10-len(nsqd)), full},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sessions{}
			server := serve(t, s, tcpproto.Limits{}, nil)
			c := dial(t, server)
			c.send("  V1" + identifyWith(test.body) + "PING\n")
			got, err := c.frame()
			if err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf(`{"broadcast_address":"peer-a","hostname":"host-a","http_port":4161,"tcp_port":%s,"version":"0.1.0"}`,
				server.Addr().String()[len("127.0.0.1:"):])
			if got != want || !json.Valid([]byte(got)) {
				t.Errorf("answer %s, want %s", got, want)
			}
			c.want("OK")
			test.want.RemoteAddress = c.LocalAddr().String()
			if diff := cmp.Diff(test.want, s.last(t)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSessionErrors(t *testing.T) {
	for name, test := range map[string]struct {
		err    error
		answer string
		stays  bool
	}{
		"unavailable":               {session.ErrUnavailable, "E_UNAVAILABLE not committed yet, the change stays declared", true},
		"T33 limit":                 {session.ErrLimit, "E_LIMIT limit reached", true},
		"T33 limit with its reason": {fmt.Errorf("%w: too many topics", session.ErrLimit), "E_LIMIT limit reached: too many topics", true},
		"unknown":                   {errors.New("secret"), "E_INVALID internal error", false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, command := range []string{"REGISTER t c\n", "UNREGISTER t c\n"} {
				s := &sessions{change: func(...string) error { return test.err }}
				c := identified(t, serve(t, s, tcpproto.Limits{}, nil))
				c.send(command)
				c.want(test.answer)
				if !test.stays {
					c.wantEnd()
					continue
				}
				c.send("PING\n" + command)
				c.want("OK", test.answer)
			}
		})
	}
	t.Run("stopped at identify", func(t *testing.T) {
		s := &sessions{refuse: func() error { return session.ErrStopped }}
		c := dial(t, serve(t, s, tcpproto.Limits{}, nil))
		c.send("  V1" + identifyWith(nsqd))
		c.want("E_UNAVAILABLE peer is stopping")
		c.wantEnd()
	})
}
