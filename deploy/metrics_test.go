package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"

	"github.com/lookupd/lookupd/supervisor"
)

const (
	runbooks    = "../docs/runbooks"
	runbookBase = "https://github.com/lookupd/lookupd/blob/main/docs/runbooks/"
)

// alerts are those that there must be.
var alerts = []string{
	"NoQuorum", "PeerDown", "ToleranceZero", "StateDiffers", "LeaderChanges", "LogSyncSlow", "PeerLag", "OrphansHeld",
	"DeclaredPending", "CertificateEnds",
}

func rules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string         `json:"name"`
			Rules []rulefmt.Rule `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict([]byte(read(t, "prometheus/alerts.yml")), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) != 1 {
		t.Fatalf("%d groups", len(file.Groups))
	}
	return file.Groups[0].Rules
}

func TestEveryAlertHasARunbook(t *testing.T) {
	found := map[string]bool{}
	for _, r := range rules(t) {
		found[r.Alert] = true
		if !slices.Contains(alerts, r.Alert) {
			t.Errorf("%s is not in this test's list", r.Alert)
		}
		if s := r.Labels["severity"]; s != "warning" && s != "critical" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		if !strings.HasSuffix(r.Annotations["summary"], ".") {
			t.Errorf("%s: the summary is no sentence: %q", r.Alert, r.Annotations["summary"])
		}
		if r.Annotations["runbook_url"] != runbookBase+r.Alert+".md" {
			t.Errorf("%s: runbook_url %q", r.Alert, r.Annotations["runbook_url"])
		}
	}
	for _, name := range alerts {
		if !found[name] {
			t.Errorf("there is no alert %s", name)
		}
		text := read(t, filepath.Join(runbooks, name+".md"))
		for _, heading := range []string{"# " + name, "## What it means", "## What users notice", "## Look", "## Do"} {
			if !strings.Contains("\n"+text, "\n"+heading+"\n") {
				t.Errorf("%s.md lacks %q", name, heading)
			}
		}
	}
	files, err := filepath.Glob(runbooks + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".md"); name != "README" && !found[name] {
			t.Errorf("%s is for no alert", file)
		}
	}
}

// promtool reads rules as Prometheus does, and has tests of what fires.
func TestAlertsFire(t *testing.T) {
	promtool := tool(t, "promtool")
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"test", "rules", "alerts_test.yml"}} {
		if out, err := run(t, "prometheus", promtool, args...); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// dashboardQueries returns all that Grafana would send.
func dashboardQueries(t *testing.T) []string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating  struct{ List []struct{ Query string } }
		Annotations struct{ List []struct{ Expr string } }
	}
	if err := json.Unmarshal([]byte(read(t, "grafana/lookupd.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	var queries []string
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		if m := regexp.MustCompile(`^label_values\((.*), \w+\)$`).FindStringSubmatch(v.Query); m != nil {
			queries = append(queries, m[1])
		}
	}
	if len(queries) < 20 {
		t.Fatalf("%d queries", len(queries))
	}
	return queries
}

// Every metric that alerts, dashboard and documents name is on the /metrics of a
// real cluster, with these labels.
func TestMetricsExist(t *testing.T) {
	shown := liveMetrics(t)
	var queries []string
	for _, r := range rules(t) {
		queries = append(queries, r.Expr)
	}
	for _, query := range append(queries, dashboardQueries(t)...) {
		expr, err := parser.ParseExpr(query)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		for _, selector := range parser.ExtractSelectors(expr) {
			checkSelector(t, shown, query, selector)
		}
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			if a, ok := node.(*parser.AggregateExpr); ok {
				checkGrouping(t, shown, query, a)
			}
			return nil
		})
	}
	names := regexp.MustCompile("`((?:lookupd|raft|memberlist)_[a-zA-Z_]+)")
	documents, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(runbooks + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(documents, more...) {
		for _, m := range names.FindAllStringSubmatch(read(t, path), -1) {
			if shown[m[1]] == nil {
				t.Errorf("%s names %s, which no peer shows", path, m[1])
			}
		}
	}
}

// Prometheus adds these to everything that it scrapes.
var scrapeLabels = []string{"job", "instance"}

func checkSelector(t *testing.T, shown map[string]map[string]bool, query string, selector []*labels.Matcher) {
	t.Helper()
	var name string
	for _, m := range selector {
		if m.Name == labels.MetricName {
			name = m.Value
		}
	}
	if shown[name] == nil {
		t.Errorf("%s: no peer shows %s", query, name)
		return
	}
	for _, m := range selector {
		if m.Name != labels.MetricName && !slices.Contains(scrapeLabels, m.Name) && !shown[name][m.Name] {
			t.Errorf("%s: %s has no label %s", query, name, m.Name)
		}
	}
}

func checkGrouping(t *testing.T, shown map[string]map[string]bool, query string, a *parser.AggregateExpr) {
	t.Helper()
	for _, label := range a.Grouping {
		known := slices.Contains(scrapeLabels, label)
		for _, selector := range parser.ExtractSelectors(a.Expr) {
			for _, m := range selector {
				known = known || m.Name == labels.MetricName && shown[m.Value][label]
			}
		}
		if !known {
			t.Errorf("%s: nothing has the label %s", query, label)
		}
	}
}

// startCluster starts three peers with certificates.
func startCluster(ctx context.Context, t *testing.T) *supervisor.Cluster {
	t.Helper()
	dir := t.TempDir()
	if out, err := run(t, "", filepath.Join(bin, "lookupctl"), "secrets", "init", dir+"/secrets"); err != nil {
		t.Fatal(err, out)
	}
	ports, err := supervisor.FreePeerPorts(3)
	if err != nil {
		t.Fatal(err)
	}
	group := supervisor.NewGroup()
	t.Cleanup(func() { _ = group.KillAll() })
	cluster := group.NewCluster(supervisor.ClusterConfig{Path: filepath.Join(bin, "lookupd"), Dir: dir, Ports: ports, Args: []string{
		"-peer-tls-cert", dir + "/secrets/peer.pem", "-peer-tls-key", dir + "/secrets/peer-key.pem",
		"-peer-tls-root-ca-file", dir + "/secrets/ca.pem", "-gossip-key-file", dir + "/secrets/gossip.key",
	}})
	if err := cluster.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return cluster
}

func fetch(ctx context.Context, t *testing.T, p *supervisor.Peer, path string) string {
	t.Helper()
	status, body, err := supervisor.Get(ctx, p.URL(path))
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s of %s: %d %v", path, p.Name(), status, err)
	}
	return string(body)
}

// liveMetrics are the labels of all metrics that three real peers show that have
// done a little of everything.
func liveMetrics(t *testing.T) map[string]map[string]bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cluster := startCluster(ctx, t)
	answer, err := http.Post(cluster.Peers[0].URL("/topic/create?topic=x"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	shown := map[string]map[string]bool{}
	sample := regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? `)
	label := regexp.MustCompile(`([a-zA-Z_]+)="(?:[^"\\]|\\.)*"`)
	for _, p := range cluster.Peers {
		fetch(ctx, t, p, "/lookup?topic=x")
		fetch(ctx, t, p, "/topics?consistency=stale")
		for line := range strings.Lines(fetch(ctx, t, p, "/metrics")) {
			m := sample.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			if shown[m[1]] == nil {
				shown[m[1]] = map[string]bool{}
			}
			// Documents name histograms and summaries as a whole.
			shown[strings.TrimSuffix(m[1], "_count")] = shown[m[1]]
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				shown[m[1]][l[1]] = true
			}
		}
	}
	return shown
}

// The metrics of the first three alerts do what the rules expect of them.
func TestMetricsTellOfLosses(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	peers := startCluster(ctx, t).Peers
	for _, step := range []struct {
		kill  []*supervisor.Peer
		shows []string
	}{
		{nil, []string{"lookupd_healthy 1", "lookupd_failure_tolerance 1", `lookupd_peer_up{peer="b"} 1`, `lookupd_peers{suffrage="voter"} 3`}},
		{peers[1:2], []string{"lookupd_healthy 0", "lookupd_failure_tolerance 0", `lookupd_peer_up{peer="b"} 0`, `lookupd_peer_up{peer="c"} 1`, "lookupd_raft_has_leader 1"}},
		{peers[2:], []string{`lookupd_peer_up{peer="c"} 0`, "lookupd_raft_has_leader 0"}},
	} {
		for _, p := range step.kill {
			if err := p.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		if err := supervisor.Poll(ctx, func(ctx context.Context) error {
			metrics := fetch(ctx, t, peers[0], "/metrics")
			for _, line := range step.shows {
				if !strings.Contains(metrics, "\n"+line+"\n") {
					return fmt.Errorf("a does not show %s", line)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}
