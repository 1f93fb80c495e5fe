package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/secrets/secretstest"
)

// promised are the metrics that operators may rely on, without "lookupd_", with
// their labels.
const promised = `
build_info version goversion revision
topics
channels
producers state
registrations
tombstones
sessions state
declared_pending
connections listener
refused_total listener reason
tcp_request_duration_seconds command
tcp_errors_total code
http_request_duration_seconds route code
commands_total kind result
batches_total result
batch_commands
batch_commit_duration_seconds
batch_retries_total
read_barriers_total result
read_barrier_duration_seconds
read_index_rounds_total role result
read_index_round_duration_seconds role
read_index_readers role
stale_reads_total reason
rendered_answers_total result
raft_is_leader
raft_has_leader
raft_term
raft_leader_changes_total
raft_last_contact_seconds
raft_commit_index
applied_index
apply_duration_seconds
peer_lag_entries peer
state_hash_checks_total result
peers suffrage
healthy
failure_tolerance
gossip_members state
log_sync_duration_seconds
log_bytes
state_bytes
disk_free_bytes
memory_live_bytes
snapshot_timestamp_seconds
certificate_expiry_timestamp_seconds listener
orphans
states_differ
insecure
`

// A peer that has done a little of everything shows all of them.
func TestMetricsThatArePromised(t *testing.T) {
	dir := t.TempDir()
	authority := secretstest.NewAuthority(t)
	files := secretstest.WriteServer(t, dir, authority.Issue(t, secretstest.Host("127.0.0.1")))
	d, err := startDaemon(t, loopbackOptions(t, dir+"/data", "-http-tls-cert="+files.Certificate, "-http-tls-key="+files.Key))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	}()
	nsqd(t, d, "n1", "host", "REGISTER t c")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secretstest.PEM(authority))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	fetch := func(path string) string {
		answer, err := client.Get("https://" + d.http.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %v %s", path, answer.StatusCode, err, body)
		}
		return string(body)
	}
	fetch("/lookup?topic=t")
	fetch("/lookup?topic=t&consistency=stale")
	shown := map[string]string{} // names, and the labels of the first of each
	sample := regexp.MustCompile(`(?m)^(lookupd_[a-z_]+?)(?:_count|_sum|_bucket)?(\{.*\})? `)
	text := fetch("/metrics")
	for _, m := range sample.FindAllStringSubmatch(text, -1) {
		shown[m[1]] += m[2]
	}
	for line := range strings.Lines(strings.TrimSpace(promised)) {
		words := strings.Fields(line)
		labels, found := shown["lookupd_"+words[0]]
		if !found {
			t.Errorf("lookupd_%s is not shown", words[0])
		}
		for _, label := range words[1:] {
			if !strings.Contains(labels, label+`="`) {
				t.Errorf("lookupd_%s has no label %s", words[0], label)
			}
		}
	}
	for _, want := range []string{
		`lookupd_commands_total{kind="register",result="committed"} 1`, `lookupd_producers{state="active"} 1`,
		`lookupd_sessions{state="open"} 1`, `lookupd_tcp_request_duration_seconds_count{command="REGISTER"} `, `lookupd_gossip_members{state="alive"} 1`,
		`lookupd_connections{listener="peer"} 0`, `lookupd_connections{listener="tcp"} 1`,
		"\nraft_", "\nmemberlist_",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the metrics", want)
		}
	}
}
