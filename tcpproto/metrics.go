package tcpproto

import "github.com/prometheus/client_golang/prometheus"

// Metrics are what a Server counts. All children exist from the start: none is
// looked up by its labels while a command waits.
type Metrics struct {
	ping, identify, register, unregister prometheus.Observer
	errors                               map[string]prometheus.Counter // by code; never changed
}

// NewMetrics makes a Server's metrics and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	requests := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "lookupd_tcp_request_duration_seconds", Help: "V1 commands, from the line to its answer.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16), // 0.1 ms to 3 s
	}, []string{"command"})
	refusals := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lookupd_tcp_errors_total", Help: "V1 error answers by code.",
	}, []string{"code"})
	reg.MustRegister(requests, refusals)
	m := &Metrics{
		ping: requests.WithLabelValues("PING"), identify: requests.WithLabelValues("IDENTIFY"),
		register: requests.WithLabelValues("REGISTER"), unregister: requests.WithLabelValues("UNREGISTER"),
		errors: map[string]prometheus.Counter{},
	}
	for _, c := range codes {
		m.errors[c.code] = refusals.WithLabelValues(c.code)
	}
	return m
}

func (m *Metrics) refused(code string) { m.errors[code].Inc() }
