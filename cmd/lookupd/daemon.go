package main

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/seeded"
	"github.com/lookupd/lookupd/session"
	"github.com/lookupd/lookupd/store"
	"github.com/lookupd/lookupd/tcpproto"
)

// daemon is one lookupd peer. start and stop are called once each, by one
// goroutine; stop also undoes a start that failed half way.
type daemon struct {
	o       *options
	log     *journal
	onFatal func(error)

	pressure   *pressure
	dir        *store.Dir
	node       *cluster.Node
	sessions   atomic.Pointer[session.Manager] // the node asks for their numbers from the start
	advertised atomic.Pointer[string]          // told to ask here; nil until HTTP listens
	http       *httpapi.Server
	shown      *serverCertificate // by http; nil for none
	tcp        *tcpproto.Server
}

func newDaemon(o *options, log *journal, onFatal func(error)) *daemon {
	return &daemon{o: o, log: log, onFatal: onFatal, pressure: newPressure(o, log.Logger)}
}

// start opens everything and returns; it does not wait for a leader.
func (d *daemon) start() (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop())
		}
	}()
	if bug := seeded.Active(); bug != "" {
		d.log.Warn("THIS BUILD HAS A BUG PLANTED IN IT AND LOSES DATA: it is for tests of the tests alone", "bug", bug)
	}
	if d.dir, err = store.OpenDir(d.o.dataPath); err != nil {
		return err
	}
	for _, warning := range d.dir.Warnings() {
		d.log.Warn(warning)
	}
	if err = d.checkFiles(); err != nil {
		return err
	}
	if err = d.o.tryPorts(); err != nil {
		return err
	}
	d.pressure.start()
	reg, err := newMetricsRegistry()
	if err != nil {
		return err
	}
	// Before the node, which tells others when it ends.
	if d.shown, err = openServerCertificate(d.o.httpCertificate, d.log); err != nil {
		return err
	}
	d.node = cluster.New(cluster.Config{
		Dir: d.dir, Name: d.o.nodeName,
		PeerAddress: d.o.peerAddress, PeerAdvertise: d.o.peerAdvertiseAddress,
		GossipAddress: d.o.gossipAddress, GossipAdvertise: d.o.gossipAdvertiseAddress,
		Certificates: d.o.certificates, GossipKeyFile: d.o.gossipKeyFile,
		Join: d.o.join, BootstrapExpect: d.o.bootstrapExpect, NonVoter: d.o.nonVoter, CleanupDeadPeers: d.o.cleanupDeadPeers,
		TombstoneLifetime: d.o.tombstoneLifetime, InactiveTimeout: d.o.inactiveProducerTimeout, Version: version, Logger: d.log.Logger,
		Sessions: d.sessionStats, HTTPAddress: d.httpAddress, Security: d.security, FreeDisk: d.pressure.disk.Load, OnFatal: d.onFatal, Metrics: cluster.NewMetrics(reg),
		DiskLow: d.pressure.DiskLow, Limits: d.o.limits.cluster,
		Snapshots: snapshotsForProof(), ApplyPause: applyPause,
	})
	if err = d.node.Open(); err != nil {
		d.node = nil // Open closed it
		return err
	}
	sessions := session.NewManager(session.Config{
		Node: d.node.ID(), Epoch: d.node.Epoch(), InactiveTimeout: d.o.inactiveProducerTimeout,
		Cluster: session.Over(d.node), Feed: d.node.Feed(), Logger: d.log.Logger,
		AnswerWithin: d.o.limits.tcpAnswer, Limits: d.o.limits.session,
	})
	sessions.Start()
	d.sessions.Store(sessions)
	registerGauges(reg, d.node, sessions)
	d.registerSecurity(reg)
	d.pressure.register(reg)
	if err = d.openHTTP(reg, sessions); err != nil {
		return err
	}
	if err = d.openTCP(sessions, tcpproto.NewMetrics(reg)); err != nil {
		return err
	}
	reg.MustRegister(listeners{d.tcp, d.node}, &members{status: d.node.Status, sizes: d.node.Sizes, sessions: sessions.Stats})
	d.announce()
	return nil
}

func (d *daemon) openHTTP(reg *prometheus.Registry, sessions *session.Manager) (err error) {
	cfg := httpapi.DefaultConfig()
	cfg.Address, cfg.Version, cfg.Logger, cfg.Process = d.o.httpAddress, version, d.log.Logger, d
	cfg.Cluster, cfg.Sessions = d.node, sessions
	cfg.Metrics = promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	cfg.Counters = httpapi.NewMetrics(reg)
	cfg.AdminCIDR, cfg.AdminHosts = d.o.adminCIDR, []string{d.o.broadcastAddress, d.o.hostName}
	cfg.AdminTokenFile, cfg.LookupTokenFile = d.o.adminTokenFile, d.o.lookupTokenFile
	d.shown.register(reg)
	cfg.Certificate = d.shown.show()
	cfg.Limits, cfg.Overloaded = d.o.limits.http, d.pressure.MemoryHigh
	cfg.OnNoQuorumStale = d.o.onNoQuorum == "stale"
	if d.http, err = httpapi.New(cfg); err != nil {
		return err
	}
	if err = d.http.Open(); err != nil {
		return err
	}
	told := net.JoinHostPort(d.o.broadcastAddress, strconv.Itoa(d.httpPort()))
	d.advertised.Store(&told)
	return nil
}

// httpAddress is where nsqds are told to ask this peer, "" before it listens.
func (d *daemon) httpAddress() string {
	if told := d.advertised.Load(); told != nil {
		return *told
	}
	return ""
}

func (d *daemon) openTCP(sessions *session.Manager, metrics *tcpproto.Metrics) error {
	d.tcp = tcpproto.New(tcpproto.Config{
		Address: d.o.tcpAddress, BroadcastAddress: d.o.broadcastAddress, Hostname: d.o.hostName,
		Version: version, HTTPPort: d.httpPort, Sessions: tcpproto.Over(sessions), Logger: d.log.Logger,
		Limits: d.o.limits.tcp, Overloaded: d.pressure.MemoryHigh, Metrics: metrics,
	})
	return d.tcp.Open()
}

func (d *daemon) httpPort() int { return d.http.Addr().(*net.TCPAddr).Port }

// sessionStats is what the other peers are told of the sessions here.
func (d *daemon) sessionStats() cluster.SessionStats {
	sessions := d.sessions.Load()
	if sessions == nil {
		return cluster.SessionStats{}
	}
	stats := sessions.Stats()
	return cluster.SessionStats{
		Sessions: stats.Sessions, Pending: stats.DeclaredPending, PendingFor: stats.PendingFor, Shared: sessions.SharedAddresses(),
	}
}

// announce says, once, what an operator needs to know about this start.
func (d *daemon) announce() {
	d.log.Info("lookupd "+version, "go", runtime.Version(), "node", d.node.ID(), "data", d.o.dataPath, "epoch", d.node.Epoch())
	d.log.Info("TCP: listening", "address", d.tcp.Addr())
	d.log.Info("HTTP: listening", "address", d.http.Addr(), "nsqds are told", d.httpAddress())
	d.log.Info("peers: listening", "peer-address", d.o.peerAddress, "advertised", d.node.PeerAddr(), "gossip-address", d.o.gossipAddress, "gossip advertised", d.node.GossipAddr())
	if host, _, err := splitAddress(d.tcp.Addr().String()); err == nil && !isLoopback(host) && isLoopback(d.o.broadcastAddress) {
		d.log.Warn("nsqds elsewhere cannot ask this peer for channels: give -broadcast-address", "broadcast-address", d.o.broadcastAddress)
	}
	if missing := d.o.unprotected(); missing != "" {
		d.log.Warn("-insecure: whoever reaches the peer and gossip ports can read and change what peers say; keep them in a trusted network", "without", missing)
	}
	for name, path := range map[string]string{"admin-token-file": d.o.adminTokenFile, "lookup-token-file": d.o.lookupTokenFile} {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
			d.log.Warn("every user of this host can read the token: chmod 0600 the file", name, path)
		}
	}
	if n := d.o.bootstrapExpect; n == 2 || n == 4 {
		d.log.Warn("an even number of voters survives no more failures than one voter less", "bootstrap-expect", n)
	}
}

// stopTimes divides -stop-timeout: three fifths for the hand-over, one for open
// requests. What is left is for gossip, raft and the files.
func stopTimes(limit time.Duration) (handOver, requests time.Duration) {
	return limit / 5 * 3, limit / 5
}

// stop ends everything in order and closes no session: until its nsqd comes
// back to this or another peer, a producer stays in the answers.
func (d *daemon) stop() error {
	var errs []error
	if d.http != nil {
		d.http.SetStopping()
	}
	handOver, requests := stopTimes(d.o.stopTimeout)
	if d.node != nil {
		ctx, cancel := context.WithTimeout(context.Background(), handOver)
		d.node.HandOver(ctx)
		cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), requests)
	defer cancel()
	if sessions := d.sessions.Load(); sessions != nil {
		sessions.Close()
	}
	if d.tcp != nil {
		errs = append(errs, d.tcp.Close(ctx))
	}
	if d.http != nil {
		errs = append(errs, d.http.Close(ctx))
	}
	if d.node != nil {
		errs = append(errs, d.node.Close())
	}
	d.shown.close()
	d.pressure.close()
	if d.dir != nil {
		errs = append(errs, d.dir.Close())
	}
	return errors.Join(errs...)
}
