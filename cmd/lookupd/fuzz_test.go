package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
)

// FuzzConfig gives any config file, one flag and one variable. What is accepted
// must be the same again after it was printed as a config file, and all of it
// within what the daemon can work with.
func FuzzConfig(f *testing.F) {
	for _, file := range []string{
		"", "tcp_address = '127.0.0.1:1'\njoin = ['a', 'b:1']\ninsecure = true", "tombstone_lifetime = 1500",
		"tombstone_lifetime = -1", "inactive_producer_timeout = 9223372036854775807", "inactive_producer_timeout = 18446744073710",
		"tombstone_lifetime = 1.5", "tombstone_lifetime = '45'", "bootstrap_expect = 99999999999", "bootstrap_expect = -1", "join = [1]",
		"join = 'a,,b, c'", "join = []\ndata_path = ''", "data_pth = 'x'", "data_path", "[join]\na = 1", "join = 1979-05-27", "config = 'x'",
		"log_prefix = \"\\u0001\\u007f\\\\ \\\"\"", "log_prefix = '''\na\nb'''", "log-level = 'debug'\nlog_level = 'error'",
		"admin_cidr = '10.0.0.0/8, ::/0'", "admin_cidr = ['10.0.0.0/8']", "admin_cidr = []", "admin_cidr = '::ffff:10.0.0.0/104'",
		"peer_address = '[::1%lo]:1'\ngossip_address = '[::1]:0'", "http_address = '0.0.0.0:4160'", "print_config = true", "version = true",
		"peer_advertise_address = '0.0.0.0:4162'", "on_no_quorum = 'guess'", "log_level = 'WARN'", "data_path = \"a\\nb\"",
		"non_voter = true\njoin = 'h'\ninsecure = true",
	} {
		f.Add(file, "", "")
	}
	for _, arg := range []string{"-tcp-address=:1", "--", "-", "-=x", "serve", "-help", "-join=,", "-log-prefix=\xff\x00", "-verbose=perhaps", "-data-dir=x", "-config=/dev/null"} {
		f.Add("", arg, "")
	}
	for _, entry := range []string{"LOOKUPD_JOIN=a\nb", "LOOKUPD_BOOTSTRAP_EXPECT=0x3", "LOOKUPD_LOG_PREFIX=\x1b[1m", "LOOKUPD_INSECURE=", "LOOKUPD_=", "LOOKUPD_CONFIG=/dev/null", "=", "LOOKUPD_BROADCAST_ADDRESS=::1"} {
		f.Add("insecure = true", "", entry)
	}
	dir := f.TempDir()
	given, printed := filepath.Join(dir, "given.toml"), filepath.Join(dir, "printed.toml")
	f.Fuzz(func(t *testing.T, file, arg, variable string) {
		write(t, given, file)
		var args []string
		if arg != "" {
			args = append(args, arg)
		}
		o, fs, err := parse(append(args, "-config="+given), []string{variable})
		if err != nil {
			if len(err.Error()) == 0 {
				t.Fatal("an error without a word")
			}
			return
		}
		if o.version || o.printConfig {
			return // nothing is started
		}
		checkSettings(t, o, file)
		var text bytes.Buffer
		if err := o.print(&text, fs); err != nil {
			t.Fatal(err)
		}
		write(t, printed, text.String())
		again, _, err := parse([]string{"-config=" + printed}, nil)
		if err != nil {
			t.Fatalf("printed settings are refused: %v\n%s", err, text.String())
		}
		for _, o := range []*options{o, again} {
			o.configFile, o.origins, o.flags = "", nil, nil
		}
		if diff := cmp.Diff(*o, *again, cmp.AllowUnexported(options{}, limits{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(sameList)); diff != "" {
			t.Fatalf("printed and read again (-given +again):\n%s%s", diff, text.String())
		}
	})
}

// sameList: no list and an empty one say the same.
func sameList(a, b []string) bool {
	return strings.Join(a, "\x00") == strings.Join(b, "\x00") && len(a) == len(b)
}

func checkSettings(t *testing.T, o *options, file string) {
	t.Helper()
	for _, address := range []string{o.tcpAddress, o.httpAddress, o.peerAddress, o.gossipAddress, o.peerAdvertiseAddress, o.gossipAdvertiseAddress} {
		if _, _, err := splitAddress(address); err != nil {
			t.Errorf("accepted: %v", err)
		}
	}
	if o.inactiveProducerTimeout <= 0 || o.tombstoneLifetime <= 0 || o.dataPath == "" || o.broadcastAddress == "" || len(o.adminCIDR) == 0 {
		t.Errorf("accepted: %+v", o)
	}
	// A bare number is milliseconds, and never wraps round.
	var values struct {
		TombstoneLifetime       any `toml:"tombstone_lifetime"`
		InactiveProducerTimeout any `toml:"inactive_producer_timeout"`
	}
	if _, err := toml.Decode(file, &values); err != nil {
		t.Errorf("accepted: %v", err)
	}
	for name, d := range map[string]struct {
		said any
		got  time.Duration
	}{
		"tombstone-lifetime":        {values.TombstoneLifetime, o.tombstoneLifetime},
		"inactive-producer-timeout": {values.InactiveProducerTimeout, o.inactiveProducerTimeout},
	} {
		ms, number := d.said.(int64)
		if number && strings.HasPrefix(o.origins[name], "file ") && (d.got%time.Millisecond != 0 || int64(d.got/time.Millisecond) != ms) {
			t.Errorf("%s of %d ms is %v", name, ms, d.got)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
