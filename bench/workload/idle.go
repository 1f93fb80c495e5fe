package workload

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lookupd/lookupd/bench/load"
	"github.com/lookupd/lookupd/bench/report"
	"github.com/lookupd/lookupd/bench/target"
)

const (
	idleWindow    = 15 * time.Second // each session pings once
	sharedTopics  = 100
	spareFiles    = 200
	isolatedPause = 100 * time.Millisecond
)

// idleWindow returns for how long idleness is measured.
func (b *Bench) idleWindow() time.Duration {
	if b.Quick {
		return idleWindow / 10
	}
	return idleWindow
}

// idle measures what sessions cost that only ping.
func (b *Bench) idle(ctx context.Context) error {
	sessions := b.Run.Sizes.IdleSessions
	if err := enoughFiles(sessions + spareFiles); err != nil {
		b.note(fmt.Sprintf("NOT RUN: %s: %v", report.Idle, err))
		return nil
	}
	return b.withFleet(func(f *target.Fleet) error {
		t, err := f.Lookupd(ctx, "lookupd 3", 3)
		if err != nil {
			return err
		}
		var c clients
		defer c.close()
		p, err := c.start(ctx, load.Job{Connect: &load.Connect{Addresses: t.V1(), Producers: sessions, Name: "idle"}})
		if err != nil {
			return err
		}
		if r, err := p.Do(load.Job{Register: &load.Register{PerSession: 1, Shared: sharedTopics}}); err != nil {
			return err
		} else if r.Failed > 0 {
			b.note(fmt.Sprintf("%s: %d answers were not OK, such as: %s", report.Idle, r.Failed, r.FirstError))
		}
		if err := pause(ctx, b.idleWindow()+time.Second); err != nil { // all have pinged once
			return err
		}
		for range min(3, b.Run.Sizes.Rounds) {
			if err := b.watchIdle(ctx, report.Idle, "lookupd 3", t); err != nil {
				return err
			}
		}
		b.logf("%s", report.Idle)
		return nil
	})
}

// watchIdle notes the processor time and the log entries of a while without load.
func (b *Bench) watchIdle(ctx context.Context, workload, system string, t *target.Target) error {
	entries, err := t.Nodes[0].Metric(ctx, commitIndex)
	if err != nil {
		return err
	}
	before := make([]time.Duration, len(t.Nodes))
	for i, n := range t.Nodes {
		before[i] = n.Usage()
	}
	began := time.Now()
	if err := pause(ctx, b.idleWindow()); err != nil {
		return err
	}
	took := time.Since(began)
	var most, all float64
	for i, n := range t.Nodes {
		percent := 100 * (n.Usage() - before[i]).Seconds() / took.Seconds()
		most, all = max(most, percent), all+percent
	}
	after, err := t.Nodes[0].Metric(ctx, commitIndex)
	if err != nil {
		return err
	}
	for _, v := range []struct {
		system, metric string
		value          float64
	}{{"busiest peer", report.Percent, most}, {system, report.Percent, all}, {system, report.Entries, after - entries}} {
		b.Run.Add(report.Key{Workload: workload, System: v.system, Metric: v.metric}, v.value)
	}
	return nil
}

// enoughFiles returns an error if this program's children may not have so many
// files open.
func enoughFiles(n int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Max < uint64(n) {
		return fmt.Errorf("needs %d open files in one process, the limit is %d (ulimit -Hn)", n, limit.Max)
	}
	return nil
}

// isolated measures lookups right after a write on a cluster that is idle
// otherwise, and what the idle cluster costs.
func (b *Bench) isolated(ctx context.Context) error {
	return b.withFleet(func(f *target.Fleet) error {
		t, err := f.Lookupd(ctx, "lookupd 3", 3)
		if err != nil {
			return err
		}
		if err := pause(ctx, 2*time.Second); err != nil { // what starting took
			return err
		}
		if err := b.watchIdle(ctx, report.Isolated, "idle", t); err != nil {
			return err
		}
		for _, c := range []struct {
			system         string
			written, asked *target.Node
		}{
			{report.Leader, t.Nodes[0], t.Nodes[0]},
			{report.Follower, t.Nodes[0], t.Nodes[1]},
			{report.Follower + ", written at the other", t.Nodes[2], t.Nodes[1]},
		} {
			if err := b.isolatedWrites(ctx, c.system, c.written, c.asked); err != nil {
				return fmt.Errorf("%s, %s: %w", report.Isolated, c.system, err)
			}
		}
		b.logf("%s", report.Isolated)
		return nil
	})
}

func (b *Bench) isolatedWrites(ctx context.Context, system string, written, asked *target.Node) error {
	s, err := load.OpenSession(ctx, written.V1, "isolated.example")
	if err != nil {
		return err
	}
	defer s.Close()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var times []float64
	for i := range b.Run.Sizes.IsolatedWrites {
		if err := pause(ctx, isolatedPause/2+rand.N(isolatedPause)); err != nil {
			return err
		}
		topic := fmt.Sprintf("isolated.%s.%s.%d", written.Name(), asked.Name(), i/serialPerTopic)
		channel := fmt.Sprint("at-", i, "-end")
		if err := s.Register(topic, channel); err != nil {
			return err
		}
		began := time.Now()
		body, err := get(ctx, client, asked.HTTP, lookupPath+topic)
		if err != nil {
			return err
		}
		times = append(times, microseconds(time.Since(began)))
		if !strings.Contains(body, channel) {
			return fmt.Errorf("STALE: %s is committed and not in %.300s", channel, body)
		}
	}
	b.noteTimes(report.Isolated, system, report.P50, report.P99, times)
	return nil
}

// noteTimes notes the middle and the slow end of single measurements.
func (b *Bench) noteTimes(workload, system, p50, p99 string, times []float64) {
	slices.Sort(times)
	b.Run.Add(report.Key{Workload: workload, System: system, Metric: p50}, load.Quantile(times, 0.50))
	b.Run.Add(report.Key{Workload: workload, System: system, Metric: p99}, load.Quantile(times, 0.99))
}

// get returns the body of a good answer.
func get(ctx context.Context, client *http.Client, address, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: status %d: %.200s", path, response.StatusCode, body)
	}
	return string(body), err
}
