package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what a Server counts.
type Metrics struct {
	requests    *prometheus.HistogramVec
	staleReads  *prometheus.CounterVec
	connections prometheus.Gauge
	refused     *prometheus.CounterVec

	renderedHit, renderedMiss prometheus.Counter
	lookups                   prometheus.Observer // that were answered 200: by far the most
}

// NewMetrics makes a Server's metrics and registers them. Those with the label
// listener are shared by name with the other listeners, so their help texts
// must stay alike.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	listener := prometheus.Labels{"listener": "http"}
	m := &Metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lookupd_http_request_duration_seconds", Help: "HTTP requests by route and code.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16), // 0.1 ms to 3 s
		}, []string{"route", "code"}),
		staleReads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lookupd_stale_reads_total", Help: "Stale answers by reason.",
		}, []string{"reason"}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "lookupd_connections", Help: "Open connections.", ConstLabels: listener,
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lookupd_refused_total", Help: "Refused connections and requests.", ConstLabels: listener,
		}, []string{"reason"}),
	}
	rendered := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lookupd_rendered_answers_total", Help: "Answers that were kept ready (hit) or had to be rendered (miss).",
	}, []string{"result"})
	m.renderedHit, m.renderedMiss = rendered.WithLabelValues("hit"), rendered.WithLabelValues("miss")
	m.lookups = m.requests.WithLabelValues(lookupPath, strconv.Itoa(http.StatusOK))
	reg.MustRegister(m.requests, m.staleReads, m.connections, m.refused, rendered)
	return m
}

// request: route is one of a fixed set, see routeOf.
func (m *Metrics) request(route string, status int, took time.Duration) {
	if route == lookupPath && status == http.StatusOK {
		m.lookups.Observe(took.Seconds())
		return
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Observe(took.Seconds())
}

func (m *Metrics) staleRead(reason string)  { m.staleReads.WithLabelValues(reason).Inc() }
func (m *Metrics) connectionsOpen(n int)    { m.connections.Set(float64(n)) }
func (m *Metrics) refusedOne(reason string) { m.refused.WithLabelValues(reason).Inc() }
