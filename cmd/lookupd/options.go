package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"github.com/lookupd/lookupd/httpapi"
	"github.com/lookupd/lookupd/secrets"
)

// options are the daemon's settings, as the user gave them.
type options struct {
	tcpAddress, httpAddress string
	broadcastAddress        string
	inactiveProducerTimeout time.Duration
	tombstoneLifetime       time.Duration
	configFile              string
	logLevel, logPrefix     string
	logFormat               string
	stopTimeout             time.Duration
	verbose, version        bool
	dataPath, nodeName      string
	peerAddress             string
	peerAdvertiseAddress    string
	gossipAddress           string
	gossipAdvertiseAddress  string
	join                    []string
	bootstrapExpect         int
	nonVoter, insecure      bool
	certificates            secrets.Files
	gossipKeyFile           string
	cleanupDeadPeers        bool
	onNoQuorum              string
	adminCIDR               []netip.Prefix
	adminTokenFile          string
	lookupTokenFile         string
	httpCertificate         secrets.ServerFiles
	printConfig             bool
	checkConfig             bool
	limits                  limits
	origins                 map[string]string // flag name -> where its value comes from
	hostName                string
	flags                   *flag.FlagSet
}

const envPrefix = "LOOKUPD_"

func newFlags(o *options) *flag.FlagSet {
	fs := flag.NewFlagSet("lookupd", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // parse reports errors in its own words
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	o.hostName = host
	fs.StringVar(&o.tcpAddress, "tcp-address", "0.0.0.0:4160", "`<addr>:<port>` to listen on for nsqd (V1 protocol)")
	fs.StringVar(&o.httpAddress, "http-address", "0.0.0.0:4161", "`<addr>:<port>` to listen on for HTTP: consumers, nsqadmin, nsqd")
	fs.StringVar(&o.broadcastAddress, "broadcast-address", host, "`address` of this peer as nsqd is told it: nsqd asks it for channels, so it must be reachable from there")
	fs.DurationVar(&o.inactiveProducerTimeout, "inactive-producer-timeout", 300*time.Second, "`duration` after its last PING for which a producer stays in the answers; sessions of a lost peer end after as long")
	fs.DurationVar(&o.tombstoneLifetime, "tombstone-lifetime", 45*time.Second, "`duration` for which a tombstone hides a producer from a topic")
	fs.StringVar(&o.configFile, "config", "", "`path` of a TOML file; keys are flags with _ for -")
	fs.StringVar(&o.logLevel, "log-level", "info", "lowest `level` to log: debug, info, warn, error or fatal")
	fs.StringVar(&o.logPrefix, "log-prefix", "[lookupd] ", "`text` before each log line")
	fs.StringVar(&o.logFormat, "log-format", "nsq", "`form` of log lines: nsq, text (key=value) or json")
	o.stopTimeout = 5 * time.Second
	duration(fs, &o.stopTimeout, "stop-timeout", time.Second, 10*time.Minute, "`duration` from SIGTERM to the end of the process: three fifths at most for the hand-over of leadership, which takes 3s at most, and a fifth for open requests")
	fs.BoolVar(&o.verbose, "verbose", false, "no effect, as in nsqlookupd")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")

	fs.StringVar(&o.dataPath, "data-path", "./lookupd-data", "`path` of this peer's data; made if it is absent")
	fs.StringVar(&o.nodeName, "node-name", host, "`name` of this peer, used when its node id is made; later the id on disk wins")
	fs.StringVar(&o.peerAddress, "peer-address", "", "`<addr>:<port>` to listen on for other peers (default port 4162, on 127.0.0.1 for a peer alone, else on 0.0.0.0)")
	fs.StringVar(&o.peerAdvertiseAddress, "peer-advertise-address", "", "`<addr>:<port>` of the peer port as others dial it (default: the broadcast address with the listener's port)")
	fs.StringVar(&o.gossipAddress, "gossip-address", "", "`<addr>:<port>` to listen on for gossip, TCP and UDP (default port 4163, on addresses as -peer-address)")
	fs.StringVar(&o.gossipAdvertiseAddress, "gossip-advertise-address", "", "`<addr>:<port>` of the gossip port as others dial it (default: the broadcast address with the listener's port)")
	fs.Var((*list)(&o.join), "join", "gossip `address`es or DNS names of other peers, host[:4163]; repeatable or with commas; may name this peer itself")
	fs.IntVar(&o.bootstrapExpect, "bootstrap-expect", 0, "`number` of peers that form the cluster when all are fresh; 1 = form alone, others join later; no effect once there is state")
	fs.BoolVar(&o.nonVoter, "non-voter", false, "join as a peer that serves but never votes")
	fs.StringVar(&o.certificates.Certificate, "peer-tls-cert", "", "`path` of this peer's certificate, PEM; lookupctl secrets init makes one for all peers. It is read again when it changes, as the next three are")
	fs.StringVar(&o.certificates.Key, "peer-tls-key", "", "`path` of its key, which nobody else may read")
	fs.StringVar(&o.certificates.Authorities, "peer-tls-root-ca-file", "", "`path` of the certificates of those who sign for peers, and for nobody else's peers")
	fs.StringVar(&o.gossipKeyFile, "gossip-key-file", "", "`path` of the keys for gossip, 32 bytes in base64 on each line; the first encrypts, all decrypt")
	fs.BoolVar(&o.cleanupDeadPeers, "cleanup-dead-peers", false, "while this peer leads, remove peers that are dead for longer than -inactive-producer-timeout, as long as -bootstrap-expect voters stay")
	fs.BoolVar(&o.insecure, "insecure", false, "let the peer and gossip ports listen off loopback without certificates and key")
	fs.StringVar(&o.onNoQuorum, "on-no-quorum", "error", "what linearizable reads get without a quorum: `error` (503) or stale (a marked stale answer)")
	o.adminCIDR = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	fs.Var((*prefixes)(&o.adminCIDR), "admin-cidr", "`networks` that may use admin routes and /debug/pprof, with commas")
	fs.StringVar(&o.adminTokenFile, "admin-token-file", "", "`path` of a file with the token that opens admin routes to callers from elsewhere, as Authorization: Bearer ...; read again at each use")
	fs.StringVar(&o.lookupTokenFile, "lookup-token-file", "", "`path` of a file with tokens, one a line; HTTP routes that show or change the registry then want one, as Authorization: Bearer ..., except from admins and but for /channels, which nsqd asks; read again when it changes")
	fs.StringVar(&o.httpCertificate.Certificate, "http-tls-cert", "", "`path` of a certificate for HTTPS on the HTTP port, PEM; plain requests but health checks are refused then. It is read again when it changes, as the next is")
	fs.StringVar(&o.httpCertificate.Key, "http-tls-key", "", "`path` of its key, which nobody else may read")
	fs.BoolVar(&o.printConfig, "print-config", false, "print every value with its origin and exit")
	fs.BoolVar(&o.checkConfig, "check-config", false, "say all that is wrong with the settings and exit: 0 if nothing is, else 2")
	limitFlags(&o.limits).VisitAll(func(f *flag.Flag) { fs.Var(f.Value, f.Name, f.Usage) })
	return fs
}

// list is a flag that may be repeated or hold commas.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(text string) error {
	for _, item := range strings.Split(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			*l = append(*l, item)
		}
	}
	return nil
}

// prefixes is a list of networks; giving it replaces the default.
type prefixes []netip.Prefix

func (p *prefixes) String() string {
	var out []string
	for _, prefix := range *p {
		out = append(out, prefix.String())
	}
	return strings.Join(out, ",")
}

func (p *prefixes) Set(text string) error {
	var parsed prefixes
	for _, item := range strings.Split(text, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(item))
		if err != nil {
			return err
		}
		parsed = append(parsed, prefix)
	}
	*p = parsed
	return nil
}

// parse reads flags, then the environment, then the file: the first that names
// a value wins.
func parse(args []string, environ []string) (*options, *flag.FlagSet, error) {
	o := &options{origins: map[string]string{}}
	fs := newFlags(o)
	o.flags = fs
	if err := fs.Parse(args); err != nil {
		return o, fs, explainFlag(err, fs)
	}
	if fs.NArg() > 0 {
		return o, fs, fmt.Errorf("unexpected argument %q: lookupd takes flags only", fs.Arg(0))
	}
	fs.Visit(func(f *flag.Flag) { o.origins[f.Name] = "flag" })
	env := map[string]string{}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && strings.HasPrefix(name, envPrefix) {
			env[name] = value
		}
	}
	var faults []error
	fs.VisitAll(func(f *flag.Flag) {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value, ok := env[name]; ok && o.origins[f.Name] == "" {
			o.origins[f.Name] = "environment " + name
			if err := fs.Set(f.Name, value); err != nil {
				faults = append(faults, fmt.Errorf("%s=%q: %w", name, value, err))
			}
		}
	})
	if o.configFile != "" {
		faults = append(faults, o.readFile(fs))
	}
	fs.VisitAll(func(f *flag.Flag) { // others cannot be written into a file
		if text := f.Value.String(); !utf8.ValidString(text) {
			faults = append(faults, fmt.Errorf("-%s (%s): %q is not UTF-8", f.Name, o.origin(f.Name), text))
		}
	})
	if o.version || o.printConfig {
		return o, fs, errors.Join(faults...)
	}
	return o, fs, errors.Join(append(faults, o.validate())...)
}

// readFile takes from the TOML file what no flag and no variable gave.
func (o *options) readFile(fs *flag.FlagSet) error {
	var values map[string]any
	if _, err := toml.DecodeFile(o.configFile, &values); err != nil {
		return fmt.Errorf("-config %s: %w", o.configFile, err)
	}
	var faults []error
	for _, key := range sortedKeys(values) {
		name := strings.ReplaceAll(key, "_", "-")
		f := fs.Lookup(name)
		if f == nil || name == "config" || isCommand(name) {
			faults = append(faults, fmt.Errorf("%s: unknown key %q%s", o.configFile, key, didYouMean(name, fs, "_")))
			continue
		}
		if o.origins[name] != "" {
			continue
		}
		text, err := fileValue(f, values[key])
		if err == nil {
			err = fs.Set(name, text)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %s = %v: %w", o.configFile, key, values[key], err))
		}
		o.origins[name] = "file " + o.configFile
	}
	return errors.Join(faults...)
}

// fileValue writes a TOML value as the flag's text. A bare number for a
// duration is milliseconds, as in NSQ's files.
func fileValue(f *flag.Flag, value any) (string, error) {
	_, isDuration := f.Value.(flag.Getter).Get().(time.Duration)
	switch v := value.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		if isDuration {
			d := time.Duration(v) * time.Millisecond
			if d/time.Millisecond != time.Duration(v) {
				return "", errors.New("more milliseconds than a duration holds")
			}
			return d.String(), nil
		}
		return strconv.FormatInt(v, 10), nil
	case []any:
		var items []string
		for _, item := range v {
			text, ok := item.(string)
			if !ok {
				return "", errors.New("a list holds texts only")
			}
			items = append(items, text)
		}
		return strings.Join(items, ","), nil
	}
	return "", fmt.Errorf("a %T cannot be a value", value)
}

// Get makes list a flag.Getter, as all flags of the standard library are.
func (l *list) Get() any { return []string(*l) }

// Get makes prefixes a flag.Getter.
func (p *prefixes) Get() any { return []netip.Prefix(*p) }

// origin says where a flag's value comes from.
func (o *options) origin(name string) string {
	if origin := o.origins[name]; origin != "" {
		return origin
	}
	return "default"
}

// validate returns every fault at once and fills in what depends on others.
func (o *options) validate() error {
	var faults []error
	fault := func(name, format string, args ...any) {
		faults = append(faults, fmt.Errorf("-%s (%s): "+format, append([]any{name, o.origin(name)}, args...)...))
	}
	if !slices.Contains([]string{"error", "stale"}, o.onNoQuorum) {
		fault("on-no-quorum", "%q is neither error nor stale", o.onNoQuorum)
	}
	if _, ok := levels[strings.ToLower(o.logLevel)]; !ok {
		fault("log-level", "%q is none of debug, info, warn, error, fatal", o.logLevel)
	}
	if !slices.Contains(logFormats, o.logFormat) {
		fault("log-format", "%q is none of %s", o.logFormat, strings.Join(logFormats, ", "))
	}
	if o.inactiveProducerTimeout <= 0 {
		fault("inactive-producer-timeout", "%s is not above 0", o.inactiveProducerTimeout)
	}
	if o.tombstoneLifetime <= 0 {
		fault("tombstone-lifetime", "%s is not above 0", o.tombstoneLifetime)
	}
	if o.bootstrapExpect < 0 || o.bootstrapExpect > 9 {
		fault("bootstrap-expect", "%d is not from 0 to 9", o.bootstrapExpect)
	}
	if o.nonVoter && (o.bootstrapExpect > 0 || len(o.join) == 0) {
		fault("non-voter", "a peer that never votes cannot found a cluster: give -join, and no -bootstrap-expect")
	}
	if o.cleanupDeadPeers && o.bootstrapExpect == 0 {
		fault("cleanup-dead-peers", "nothing says how many voters must stay: give -bootstrap-expect, which has no other effect once there is state")
	}
	if o.broadcastAddress == "" {
		fault("broadcast-address", "the host has no name: give one")
	}
	if o.dataPath == "" {
		fault("data-path", "is empty")
	}
	if o.adminTokenFile != "" {
		if _, err := httpapi.ReadToken(o.adminTokenFile); err != nil {
			fault("admin-token-file", "%w", err)
		}
	}
	if o.lookupTokenFile != "" {
		if _, err := httpapi.ReadTokens(o.lookupTokenFile); err != nil {
			fault("lookup-token-file", "%w", err)
		}
	}
	o.limits.complete()
	o.fillAddresses()
	listeners := map[string]string{}
	for _, l := range []struct{ name, value string }{
		{"tcp-address", o.tcpAddress},
		{"http-address", o.httpAddress},
		{"peer-address", o.peerAddress},
		{"gossip-address", o.gossipAddress},
	} {
		_, port, err := splitAddress(l.value)
		if err != nil {
			fault(l.name, "%w", err)
			continue
		}
		if other := listeners[l.value]; other != "" && port != 0 {
			fault(l.name, "%s is -%s already", l.value, other)
		}
		listeners[l.value] = l.name
	}
	o.checkSecrets(fault)
	for _, a := range []struct{ name, value string }{{"peer-advertise-address", o.peerAdvertiseAddress}, {"gossip-advertise-address", o.gossipAdvertiseAddress}} {
		host, _, err := splitAddress(a.value)
		if err != nil {
			fault(a.name, "%w", err)
		} else if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			fault(a.name, "%s: others cannot dial that", a.value)
		}
	}
	return errors.Join(faults...)
}

// fillAddresses gives the peer and gossip ports their defaults. A peer that is
// alone listens on loopback only; what listens on loopback advertises it.
func (o *options) fillAddresses() {
	host := "0.0.0.0"
	if len(o.join) == 0 && o.bootstrapExpect == 0 {
		host = "127.0.0.1"
	}
	fill := func(address, advertise *string, port string) {
		if *address == "" {
			*address = net.JoinHostPort(host, port)
		}
		if listen, port, err := splitAddress(*address); err == nil && *advertise == "" {
			if !isLoopback(listen) {
				listen = o.broadcastAddress
			}
			*advertise = net.JoinHostPort(listen, strconv.Itoa(port))
		}
	}
	fill(&o.peerAddress, &o.peerAdvertiseAddress, "4162")
	fill(&o.gossipAddress, &o.gossipAdvertiseAddress, "4163")
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not <addr>:<port>", address)
	}
	if port, err = strconv.Atoi(text); err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%q: %q is not a port", address, text)
	}
	return host, port, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
