package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lookupd.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	file := writeFile(t, `
tcp_address = "127.0.0.1:1"
http_address = "127.0.0.1:2"
data_path = "/from/file"
inactive_producer_timeout = 1500
tombstone_lifetime = "2s"
join = ["a", "b:1"]
insecure = true
`)
	o, _, err := parse(
		[]string{"-config", file, "--tcp-address=127.0.0.1:3", "-join=x,y", "-join", "z"},
		[]string{"LOOKUPD_HTTP_ADDRESS=127.0.0.1:4", "LOOKUPD_TCP_ADDRESS=127.0.0.1:5", "LOOKUPD_PORT_4161_TCP=tcp://10.0.0.1:4161", "LOOKUPD_SERVICE_HOST=10.0.0.1"},
	)
	if err != nil {
		t.Fatal(err)
	}
	if o.tcpAddress != "127.0.0.1:3" || o.httpAddress != "127.0.0.1:4" || o.dataPath != "/from/file" {
		t.Errorf("tcp %s http %s data %s", o.tcpAddress, o.httpAddress, o.dataPath)
	}
	if o.inactiveProducerTimeout != 1500*time.Millisecond || o.tombstoneLifetime != 2*time.Second {
		t.Errorf("durations %s %s", o.inactiveProducerTimeout, o.tombstoneLifetime)
	}
	if !slices.Equal(o.join, []string{"x", "y", "z"}) {
		t.Errorf("join %v", o.join)
	}
	if o.peerAddress != "0.0.0.0:4162" || o.gossipAddress != "0.0.0.0:4163" {
		t.Errorf("peer %s gossip %s", o.peerAddress, o.gossipAddress)
	}
	for name, origin := range map[string]string{"tcp-address": "flag", "http-address": "environment LOOKUPD_HTTP_ADDRESS", "data-path": "file " + file} {
		if o.origins[name] != origin {
			t.Errorf("%s comes from %q", name, o.origins[name])
		}
	}
}

func TestAlonePeerListensOnLoopback(t *testing.T) {
	o, _, err := parse(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{o.peerAddress, o.peerAdvertiseAddress} {
		if a != "127.0.0.1:4162" {
			t.Error(a)
		}
	}
	if o.gossipAddress != "127.0.0.1:4163" {
		t.Error(o.gossipAddress)
	}
}

func TestAdvertiseDefaultsToTheBroadcastAddress(t *testing.T) {
	o, _, err := parse([]string{"-bootstrap-expect=3", "-join=h1", "-insecure", "-broadcast-address=10.1.2.3", "-peer-address=:5000"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.peerAdvertiseAddress != "10.1.2.3:5000" || o.gossipAdvertiseAddress != "10.1.2.3:4163" {
		t.Errorf("%s %s", o.peerAdvertiseAddress, o.gossipAdvertiseAddress)
	}
}

// Each bad setting is refused before anything is opened, with the setting named.
func TestBadSettings(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		file string
		env  []string
		want []string
	}{
		{name: "C1 unknown flag", args: []string{"-tcp-adress=x"}, want: []string{"unknown flag -tcp-adress: did you mean -tcp-address?"}},
		{name: "C1 another daemon's flag", args: []string{"-data-dir=x"}, want: []string{"-data-dir: did you mean -data-path?"}},
		{name: "and one more", args: []string{"--retry-join=x"}, want: []string{"did you mean -join?"}},
		{name: "argument", args: []string{"serve"}, want: []string{`unexpected argument "serve"`}},
		{name: "C1 wrong type", args: []string{"-bootstrap-expect=many"}, want: []string{"bootstrap-expect", "many"}},
		{name: "C2 duration without unit", args: []string{"-tombstone-lifetime=45"}, want: []string{"tombstone-lifetime"}},
		{name: "C2 negative duration", args: []string{"-inactive-producer-timeout=-1s"}, want: []string{"-inactive-producer-timeout (flag)"}},
		{name: "C1 unknown key", file: "data_pth = 'x'", want: []string{`unknown key "data_pth": did you mean data_path?`}},
		{name: "C1 wrong type in the file", file: "insecure = 'perhaps'", want: []string{"insecure = perhaps"}},
		{name: "table in the file", file: "[join]\na = 1", want: []string{"join"}},
		{name: "more milliseconds than a duration holds", file: "tombstone_lifetime = 18446744073710", want: []string{"tombstone_lifetime = 18446744073710"}},
		{name: "not UTF-8", args: []string{"-log-prefix=\xff"}, want: []string{"-log-prefix (flag)", "UTF-8"}},
		{name: "not TOML", file: "data_path", want: []string{"-config"}},
		{name: "file absent", args: []string{"-config=/does/not/exist"}, want: []string{"-config /does/not/exist"}},
		{name: "C1 wrong type in the environment", env: []string{"LOOKUPD_BOOTSTRAP_EXPECT=x"}, want: []string{"LOOKUPD_BOOTSTRAP_EXPECT"}},
		{name: "not an address", args: []string{"-http-address=4161"}, want: []string{"-http-address (flag)"}},
		{name: "not a port", args: []string{"-http-address=:99999"}, want: []string{`"99999" is not a port`}},
		{name: "C3 two listeners on one port", args: []string{"-http-address=0.0.0.0:4160"}, want: []string{"0.0.0.0:4160 is -tcp-address already"}},
		{name: "off loopback without -insecure", args: []string{"-join=h1"}, want: []string{"-peer-address", "-gossip-address", "-insecure"}},
		{name: "C6 advertise 0.0.0.0", args: []string{"-peer-advertise-address=0.0.0.0:4162"}, want: []string{"-peer-advertise-address"}},
		{name: "level", args: []string{"-log-level=loud"}, want: []string{`"loud" is none of`}},
		{name: "no quorum", args: []string{"-on-no-quorum=guess"}, want: []string{"-on-no-quorum"}},
		{name: "founder that never votes", args: []string{"-non-voter"}, want: []string{"-non-voter"}},
		{name: "admin networks", args: []string{"-admin-cidr=10.0.0.0"}, want: []string{"admin-cidr"}},
		{name: "C2 0 where senseless, and other faults at once", args: []string{"-log-level=loud", "-tombstone-lifetime=0s"}, want: []string{"-log-level", "-tombstone-lifetime"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := c.args
			if c.file != "" {
				args = append(args, "-config", writeFile(t, c.file))
			}
			var stdout, stderr bytes.Buffer
			if code := run(args, c.env, &stdout, &stderr); code != exitConfig {
				t.Errorf("exit code %d", code)
			}
			for _, want := range c.want {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("%q is not in: %s", want, stderr.String())
				}
			}
		})
	}
}

func TestDurationsOfTheFile(t *testing.T) {
	for name, text := range map[string]string{
		"C2 a bare number is milliseconds": "tombstone_lifetime = 1500",
		"C2 a text has its unit":           "tombstone_lifetime = '1.5s'",
	} {
		t.Run(name, func(t *testing.T) {
			o, _, err := parse([]string{"-config", writeFile(t, text)}, nil)
			if err != nil || o.tombstoneLifetime != 1500*time.Millisecond {
				t.Errorf("%s, %v", o.tombstoneLifetime, err)
			}
		})
	}
}

func TestPrintConfigIsAConfigFile(t *testing.T) {
	var first bytes.Buffer
	if code := run([]string{"-print-config", "-join=a,b", "-insecure"}, nil, &first, os.Stderr); code != exitStopped {
		t.Fatalf("exit code %d", code)
	}
	if !strings.Contains(first.String(), `join = ["a", "b"] # flag`) {
		t.Error(first.String())
	}
	var second bytes.Buffer
	if code := run([]string{"-print-config", "-config", writeFile(t, first.String())}, nil, &second, os.Stderr); code != exitStopped {
		t.Fatalf("exit code %d", code)
	}
	for i, line := range strings.Split(first.String(), "\n") {
		value, _, _ := strings.Cut(line, " #")
		if again, _, _ := strings.Cut(strings.Split(second.String(), "\n")[i], " #"); again != value {
			t.Errorf("%q became %q", value, again)
		}
	}
}

func TestPrintConfigKeepsEveryText(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a\nb")
	if err := os.WriteFile(file, []byte(`log_prefix = "\u0001\u001b\u007f\\ \" \n"`), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := run([]string{"-print-config", "-config", file}, nil, &out, os.Stderr); code != exitStopped {
		t.Fatalf("exit code %d", code)
	}
	o, _, err := parse([]string{"-config", writeFile(t, out.String())}, nil)
	if err != nil || o.logPrefix != "\x01\x1b\x7f\\ \" \n" {
		t.Errorf("%q, %v, from\n%s", o.logPrefix, err, out.String())
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	var out bytes.Buffer
	if code := run([]string{"-help"}, nil, &out, os.Stderr); code != exitStopped {
		t.Fatalf("exit code %d", code)
	}
	for _, name := range []string{"-tcp-address", "-data-path", "-join", "-bootstrap-expect", "-on-no-quorum"} {
		if !strings.Contains(out.String(), "  "+name+" ") {
			t.Errorf("%s is not in the help", name)
		}
	}
}

func TestAdminTokenFileIsReadAtStart(t *testing.T) {
	good := writeFile(t, "0123456789abcdef\n")
	if o, _, err := parse([]string{"-admin-token-file", good}, nil); err != nil || o.adminTokenFile != good {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{writeFile(t, "short"), good + ".nothing"} {
		if _, _, err := parse([]string{"-admin-token-file", bad}, nil); err == nil || !strings.Contains(err.Error(), "-admin-token-file (flag): ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestCleanupNeedsASize(t *testing.T) {
	if _, _, err := parse([]string{"-cleanup-dead-peers", "-join=127.0.0.1"}, nil); err == nil || !strings.Contains(err.Error(), "-bootstrap-expect") {
		t.Errorf("%v", err)
	}
	if _, _, err := parse([]string{"-cleanup-dead-peers", "-bootstrap-expect=3", "-join=127.0.0.1", "-insecure"}, nil); err != nil {
		t.Error(err)
	}
}

// TestCheckConfig says what is wrong, starts nothing and writes nothing.
func TestCheckConfig(t *testing.T) {
	data := t.TempDir() + "/data"
	good := writeFile(t, "data_path = \""+data+"\"\nbootstrap_expect = 3\n")
	var out, talk bytes.Buffer
	if code := run([]string{"-check-config", "-config", good, "-insecure"}, nil, &out, &talk); code != exitStopped || talk.Len() > 0 {
		t.Errorf("exit code %d: %s", code, talk.String())
	}
	for text, want := range map[string]string{
		"dta_path = \"x\"":                "did you mean data_path?",
		"bootstrap_expect = \"x\"":        "bootstrap_expect = x: ",
		"bootstrap_expect = 12":           "12 is not from 0 to 9",
		"print_config = true":             "unknown key \"print_config\"",
		"bootstrap_expect = ":             "lookupd.toml",
		"[listeners]\ntcp = \"x\"":        "unknown key \"listeners\"",
		"tombstone_lifetime = -1":         "-1ms is not above 0",
		"peer_address = \"0.0.0.0:4162\"": "lookupctl secrets init",
	} {
		talk.Reset()
		if code := run([]string{"-check-config", "-config", writeFile(t, text)}, nil, io.Discard, &talk); code != exitConfig || !strings.Contains(talk.String(), want) {
			t.Errorf("%s: exit code %d: %s, want %s", text, code, talk.String(), want)
		}
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the data directory was made")
	}
}

func TestStopTimeout(t *testing.T) {
	file := writeFile(t, "stop_timeout = 7000\n")
	for _, test := range []struct {
		args, environ      []string
		want               time.Duration
		handOver, requests time.Duration
	}{
		{nil, nil, 5 * time.Second, 3 * time.Second, time.Second},
		{[]string{"-stop-timeout=1s"}, nil, time.Second, 600 * time.Millisecond, 200 * time.Millisecond},
		{[]string{"-config", file}, nil, 7 * time.Second, 4200 * time.Millisecond, 1400 * time.Millisecond},
		{[]string{"-config", file}, []string{"LOOKUPD_STOP_TIMEOUT=10m"}, 10 * time.Minute, 6 * time.Minute, 2 * time.Minute},
	} {
		o, _, err := parse(test.args, test.environ)
		if err != nil {
			t.Error(test.args, err)
			continue
		}
		if handOver, requests := stopTimes(o.stopTimeout); o.stopTimeout != test.want || handOver != test.handOver || requests != test.requests {
			t.Errorf("%v: %s, %s, %s", test.args, o.stopTimeout, handOver, requests)
		}
	}
	for _, value := range []string{"0", "-1s", "999ms", "10m1s", "5", "x", ""} {
		var stderr bytes.Buffer
		code := run([]string{"-stop-timeout=" + value}, nil, io.Discard, &stderr)
		if code != exitConfig || !strings.Contains(stderr.String(), "stop-timeout") {
			t.Errorf("%q: exit code %d: %s", value, code, stderr.String())
		}
	}
}
