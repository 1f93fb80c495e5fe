package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/session"
	"github.com/lookupd/lookupd/tcpproto"
)

// limits are what clients and other peers may cost, each a flag.
type limits struct {
	tcp     tcpproto.Limits
	http    httpapi.Limits
	session session.Limits
	cluster cluster.Limits

	tcpAnswer   time.Duration
	unreachable time.Duration // a silent host is given up after
	logLines    int
	memory      int // percent of GOMEMLIMIT
	freeDisk    int64
}

// limitFlags makes the flags of l, which they set to their defaults.
func limitFlags(l *limits) *flag.FlagSet {
	*l = limits{
		tcp: tcpproto.DefaultLimits(), http: httpapi.DefaultConfig().Limits,
		session: session.DefaultConfig().Limits, cluster: cluster.DefaultLimits(),
		tcpAnswer:   session.DefaultConfig().AnswerWithin,
		unreachable: tcpproto.DefaultLimits().UserTimeout,
		logLines:    tcpproto.DefaultLimits().LogLines,
		memory:      90, freeDisk: 128 << 20,
	}
	fs := flag.NewFlagSet("limits", flag.ContinueOnError)
	l.tcpFlags(fs)
	l.httpFlags(fs)
	l.stateFlags(fs)
	l.peerFlags(fs)
	number(fs, &l.logLines, "max-bad-client-log-lines", 1, 10_000, "`lines` a second that refused clients may cause in the log, for each kind; the rest is counted")
	number(fs, &l.memory, "max-memory-percent", 10, 100, "`percent` of GOMEMLIMIT in live use above which new connections are refused; no effect without GOMEMLIMIT")
	size(fs, &l.freeDisk, "min-free-disk", 0, 1<<50, "free `space` at -data-path below which registrations get E_UNAVAILABLE and HTTP changes 503")
	duration(fs, &l.unreachable, "unreachable-timeout", 2*time.Second, time.Hour, "`duration` after which the connection of a client whose host or network is silent ends")
	return fs
}

func (l *limits) tcpFlags(fs *flag.FlagSet) {
	number(fs, &l.tcp.Connections, "tcp-max-connections", 1, 1_000_000, "`number` of V1 connections; more are closed at once")
	number(fs, &l.tcp.ConnectionsPerAddress, "tcp-max-connections-per-address", 1, 1_000_000, "`number` of V1 connections from one IP address")
	number(fs, &l.tcp.Accepts, "tcp-accept-rate", 1, 1_000_000, "`number` of V1 connections taken a second; more wait")
	number(fs, &l.tcp.AcceptBurst, "tcp-accept-burst", 1, 1_000_000, "`number` of V1 connections taken at once before the rate counts")
	number(fs, &l.tcp.Commands, "tcp-command-rate", 1, 1_000_000, "`number` of commands a second that are read from one V1 connection")
	number(fs, &l.tcp.CommandBurst, "tcp-command-burst", 1, 10_000_000, "`number` of commands read at once before the rate counts")
	duration(fs, &l.tcp.Magic, "tcp-magic-timeout", time.Millisecond, time.Hour, "`duration` for the first four bytes of a V1 connection")
	duration(fs, &l.tcp.Identify, "tcp-identify-timeout", time.Millisecond, time.Hour, "`duration` from there to IDENTIFY")
	duration(fs, &l.tcp.IdentifyPing, "tcp-identify-ping-timeout", time.Millisecond, time.Hour, "the same `duration` for clients that only PING")
	duration(fs, &l.tcp.Line, "tcp-line-timeout", time.Millisecond, time.Hour, "`duration` for the rest of a command line that has begun")
	duration(fs, &l.tcp.Body, "tcp-body-timeout", time.Millisecond, time.Hour, "`duration` for the body of IDENTIFY")
	duration(fs, &l.tcpAnswer, "tcp-answer-timeout", 50*time.Millisecond, time.Minute, "`duration` after which what is not committed is answered E_UNAVAILABLE; nsqd waits one second")
	duration(fs, &l.tcp.Write, "tcp-write-timeout", time.Millisecond, time.Hour, "`duration` for a V1 client to take its answers")
	size(fs, &l.tcp.LineBytes, "tcp-max-line-bytes", 160, 1<<20, "`size` of a command line; UNREGISTER with the longest names has 140")
	size(fs, &l.tcp.BodyBytes, "tcp-max-body-bytes", 1<<10, 16<<20, "`size` of the body of IDENTIFY")
}

func (l *limits) httpFlags(fs *flag.FlagSet) {
	number(fs, &l.http.Connections, "http-max-connections", 1, 1_000_000, "`number` of HTTP connections; more are closed at once")
	number(fs, &l.http.ConnectionsPerAddress, "http-max-connections-per-address", 1, 1_000_000, "`number` of HTTP connections from one IP address")
	number(fs, &l.http.LinearizableReads, "http-max-reads", 1, 1_000_000, "`number` of linearizable reads under way; more wait for -http-answer-timeout, then 503 OVERLOADED")
	duration(fs, &l.http.HeaderTimeout, "http-header-timeout", time.Millisecond, time.Hour, "`duration` for a request's line and headers")
	duration(fs, &l.http.ReadTimeout, "http-read-timeout", time.Millisecond, time.Hour, "`duration` for a whole request")
	duration(fs, &l.http.AnswerWithin, "http-answer-timeout", 50*time.Millisecond, time.Minute, "`duration` after which a read or change without a quorum is answered 503")
	duration(fs, &l.http.WriteTimeout, "http-write-timeout", time.Millisecond, time.Hour, "`duration` for a client to take each write of an answer")
	duration(fs, &l.http.IdleTimeout, "http-idle-timeout", time.Millisecond, time.Hour, "`duration` for which a connection may wait for its next request")
	size(fs, &l.http.KeptAnswerBytes, "http-kept-answers", 0, 1<<40, "`size` of the rendered answers that are kept for the next who asks")
	size(fs, &l.http.HeaderBytes, "http-max-header-bytes", 1<<10, 16<<20, "`size` of a request's line and headers")
	size(fs, &l.http.URLBytes, "http-max-url-bytes", 256, 16<<20, "`size` of a URL")
	size(fs, &l.http.BodyBytes, "http-max-body-bytes", 1, 1<<30, "`size` of a request's body, which no route needs")
}

func (l *limits) stateFlags(fs *flag.FlagSet) {
	number(fs, &l.session.Topics, "max-topics", 1, 100_000_000, "`number` of topics in all")
	number(fs, &l.session.Channels, "max-channels-per-topic", 1, 100_000_000, "`number` of channels of one topic")
	number(fs, &l.session.Registrations, "max-registrations-per-producer", 1, 100_000_000, "`number` of topics and channels that one nsqd registers")
	number(fs, &l.session.InAll, "max-registrations", 1, 1_000_000_000, "`number` of registrations in all, and of channels")
	number(fs, &l.cluster.PendingCommands, "max-pending-changes", cluster.MaxProposalCommands, 1_000_000, "`number` of changes that wait for raft; more wait for room, then E_UNAVAILABLE or 503")
	size(fs, &l.cluster.PendingBytes, "max-pending-bytes", 1<<20, 1<<30, "`size` of the changes that wait for raft")
}

func (l *limits) peerFlags(fs *flag.FlagSet) {
	p := &l.cluster.Peer
	number(fs, &p.Connections, "peer-max-connections", 16, 10_000, "`number` of connections to the peer port, half of them for peers that have no cluster yet")
	number(fs, &p.ConnectionsPerPeer, "peer-max-connections-per-peer", 6, 1_000, "`number` of connections to the peer port from one peer")
	number(fs, &p.Handshakes, "peer-max-handshakes", 1, 1_000, "`number` of handshakes under way on the peer port; four times as many connections may wait for theirs")
	duration(fs, &p.Handshake, "peer-handshake-timeout", 100*time.Millisecond, time.Minute, "`duration` of a handshake between peers")
	size(fs, &p.SnapshotBytes, "peer-max-snapshot-bytes", 1<<20, 1<<50, "`size` of a snapshot that another peer may send, unless the own state is larger than a quarter of it")
	number(fs, &l.cluster.Members, "gossip-max-members", 3, 10_000, "`number` of peers that gossip takes notice of")
}

// complete fills in the limits that have no flag of their own.
func (l *limits) complete() {
	const probes = 3 // the host is silent for half the time, then probed
	alive := net.KeepAliveConfig{Enable: true, Idle: l.unreachable / 2, Interval: l.unreachable / 2 / probes, Count: probes}
	l.tcp.KeepAlive, l.http.KeepAlive = alive, alive
	l.tcp.UserTimeout = l.unreachable
	l.tcp.LogLines, l.http.LogLines, l.cluster.LogLines = l.logLines, l.logLines, l.logLines
	l.http.Topics, l.http.ChannelsPerTopic, l.http.Channels = l.session.Topics, l.session.Channels, l.session.InAll
}

// limit is a flag whose value has a range.
type limit[T int | int64 | time.Duration] struct {
	value     *T
	low, high T
	parse     func(string) (T, error)
	text      func(T) string
}

func (l *limit[T]) String() string {
	if l.value == nil { // as package flag makes it, to know what a zero looks like
		return ""
	}
	return l.text(*l.value)
}

// Get makes limit a flag.Getter.
func (l *limit[T]) Get() any { return *l.value }

// Set takes what is in the range.
func (l *limit[T]) Set(text string) error {
	v, err := l.parse(text)
	if err != nil {
		return err
	}
	if v < l.low || v > l.high {
		return fmt.Errorf("not from %s to %s", l.text(l.low), l.text(l.high))
	}
	*l.value = v
	return nil
}

func number(fs *flag.FlagSet, value *int, name string, low, high int, usage string) {
	parse := func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, errors.New("not a whole number")
		}
		return n, nil
	}
	fs.Var(&limit[int]{value, low, high, parse, strconv.Itoa}, name, usage)
}

func duration(fs *flag.FlagSet, value *time.Duration, name string, low, high time.Duration, usage string) {
	fs.Var(&limit[time.Duration]{value, low, high, time.ParseDuration, time.Duration.String}, name, usage)
}

// size is a flag for a number of bytes, which may have a unit.
func size[T int | int64](fs *flag.FlagSet, value *T, name string, low, high T, usage string) {
	parse := func(text string) (T, error) {
		n, err := parseSize(text)
		return T(n), err
	}
	fs.Var(&limit[T]{value, low, high, parse, func(v T) string { return sizeText(int64(v)) }}, name, usage)
}

// units are the words for sizes, the largest first.
func units() []struct {
	word string
	size int64
} {
	return []struct {
		word string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
}

func parseSize(text string) (int64, error) {
	unit := int64(1)
	digits := text
	for _, u := range units() {
		if rest, ok := strings.CutSuffix(text, u.word); ok {
			digits, unit = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case err != nil:
		return 0, errors.New("not a size such as 65536, 64KiB, 16MiB or 1GiB")
	case n > math.MaxInt64/unit || n < 0:
		return 0, errors.New("out of range")
	}
	return n * unit, nil
}

func sizeText(n int64) string {
	for _, u := range units() {
		if n%u.size == 0 && n >= u.size {
			return strconv.FormatInt(n/u.size, 10) + u.word
		}
	}
	return strconv.FormatInt(n, 10)
}
