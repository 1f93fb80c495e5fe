package main

import (
	"crypto/tls"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lookupd/lookupd/secrets"
)

// lookEvery is how often the certificate's files are looked at.
const lookEvery = time.Second

// serverCertificate is what the HTTP port shows, read again when its files change.
type serverCertificate struct {
	files secrets.ServerFiles
	log   *journal

	current atomic.Pointer[secrets.ServerCertificate]
	stop    chan struct{}
	running sync.WaitGroup
}

// openServerCertificate returns nil if there are no files.
func openServerCertificate(files secrets.ServerFiles, log *journal) (*serverCertificate, error) {
	if !files.Given() {
		return nil, nil //nolint:nilnil // close and use know it
	}
	first, err := files.Load(time.Now())
	if err != nil {
		return nil, err
	}
	c := &serverCertificate{files: files, log: log, stop: make(chan struct{})}
	c.current.Store(first)
	c.running.Go(func() { c.follow(first) })
	return c, nil
}

func (c *serverCertificate) follow(first *secrets.ServerCertificate) {
	watch := secrets.NewWatch(first, func() (*secrets.ServerCertificate, error) { return c.files.Load(time.Now()) })
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-ticker.C:
		}
		next, changed, err := watch.Look()
		if err != nil {
			c.log.Error("the HTTP port's certificate cannot be used, the one from before stays", "err", err)
		}
		if changed {
			c.current.Store(next)
			c.log.Info("the HTTP port's certificate was read again", "ends", next.Ends().UTC().Format(time.DateTime))
		}
	}
}

// show returns what httpapi is to ask for its certificate, nil for plain HTTP.
func (c *serverCertificate) show() func() *tls.Certificate {
	if c == nil {
		return nil
	}
	return func() *tls.Certificate { return c.current.Load().Own() }
}

func (c *serverCertificate) register(reg prometheus.Registerer) {
	if c == nil {
		return
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lookupd_certificate_expiry_timestamp_seconds", Help: "When others cease to accept the certificate of a listener.",
		ConstLabels: prometheus.Labels{"listener": "http"},
	}, func() float64 { return float64(c.current.Load().Ends().Unix()) }))
}

func (c *serverCertificate) close() {
	if c != nil {
		close(c.stop)
		c.running.Wait()
	}
}
