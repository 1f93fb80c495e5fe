package lab

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// How a rule treats what it meets.
type How int

const (
	Drop   How = iota // lost without a word, as by a broken switch
	Reject            // TCP is reset, the rest is lost, as by a firewall
)

func (h How) String() string {
	if h == Reject {
		return "reject"
	}
	return "drop"
}

// Rule is a fault in force on one host's link to the peers' switch.
type Rule struct {
	name    string
	network *Network
	host    *Host

	mu      sync.Mutex
	slow    bool       // tc's queue is in force
	filters [][]string // iptables' words after the chain, of those in force
}

// Block keeps away, at the receiver, what one host sends to another on the peers'
// switch. The other direction stays open.
func (n *Network) Block(from, to *Host, how How) (*Rule, error) {
	source := []string{"-i", string(Peers), "-s", from.Peer}
	drop := slices.Concat(source, []string{"-j", "DROP"})
	if how == Drop {
		return n.filter(to, drop)
	}
	return n.filter(to, slices.Concat(source, []string{"-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"}), drop)
}

// BlockDials keeps one host from using a TCP port of another on the peers' switch,
// as a firewall would; the other can still use its ports.
func (n *Network) BlockDials(from, to *Host, port int) (*Rule, error) {
	return n.filter(to, []string{"-i", string(Peers), "-s", from.Peer, "-p", "tcp", "--dport", strconv.Itoa(port), "-j", "DROP"})
}

// Loss loses that share, from 0 to 1, of what reaches the host on the peers'
// switch.
func (n *Network) Loss(h *Host, share float64) (*Rule, error) {
	return n.filter(h, []string{
		"-i", string(Peers), "-m", "statistic", "--mode", "random",
		"--probability", strconv.FormatFloat(share, 'f', 6, 64), "-j", "DROP",
	})
}

// filter puts iptables rules into force at a host, in this order.
func (n *Network) filter(h *Host, filters ...[]string) (*Rule, error) {
	r := n.newRule(h)
	for i, words := range filters {
		words = append(words, "-m", "comment", "--comment", r.name)
		if err := h.iptables(slices.Concat([]string{"-I", "INPUT", strconv.Itoa(i + 1)}, words)...); err != nil {
			return nil, errors.Join(err, r.Remove())
		}
		r.filters = append(r.filters, words)
	}
	n.add(r)
	return r, nil
}

// Slow bounds what the host sends on the peers' switch to a rate in bits per
// second; what waits longer than latency is lost. Both as tc writes them: "1mbit",
// "400ms". A host has one such rule at most.
func (n *Network) Slow(h *Host, rate, latency string) (*Rule, error) {
	if err := run("tc", "-n", h.Name, "qdisc", "add", "dev", string(Peers), "root", "tbf", "rate", rate, "burst", "16kbit", "latency", latency); err != nil {
		return nil, err
	}
	r := n.newRule(h)
	r.slow = true
	n.add(r)
	return r, nil
}

// newRule makes a rule that is not in force yet.
func (n *Network) newRule(h *Host) *Rule {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.made++
	return &Rule{name: fmt.Sprintf("rule-%d", n.made), network: n, host: h}
}

// add notes a rule in force.
func (n *Network) add(r *Rule) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules = append(n.rules, r)
}

func (n *Network) forget(r *Rule) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules = slices.DeleteFunc(n.rules, func(other *Rule) bool { return other == r })
}

// Packets returns how many packets a rule in force has met: those that it kept away, or
// those that a slow link made wait or lost.
func (r *Rule) Packets() (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slow {
		out, err := output("tc", "-n", r.host.Name, "-s", "qdisc", "show", "dev", string(Peers), "root")
		if err != nil {
			return 0, err
		}
		return overlimits(out)
	}
	out, err := r.host.run("iptables", "-w", "-nvxL", "INPUT")
	if err != nil {
		return 0, err
	}
	return countPackets(out, r.name)
}

// countPackets sums what iptables lists for the rules with a comment:
//
//	pkts bytes target prot opt in out source destination ... /* rule-7 */
func countPackets(listing, comment string) (int, error) {
	sum, found := 0, false
	for line := range strings.Lines(listing) {
		if !strings.Contains(line, "/* "+comment+" */") {
			continue
		}
		n, err := strconv.Atoi(strings.Fields(line)[0])
		if err != nil {
			return 0, fmt.Errorf("iptables lists %q: %w", line, err)
		}
		sum, found = sum+n, true
	}
	if !found {
		return 0, fmt.Errorf("iptables does not list %s", comment)
	}
	return sum, nil
}

// overlimits finds, in "Sent 0 bytes 0 pkt (dropped 0, overlimits 7 requeues 0)",
// how often a packet had to wait.
func overlimits(statistics string) (int, error) {
	_, after, found := strings.Cut(statistics, "overlimits ")
	if !found {
		return 0, fmt.Errorf("tc shows no slow link: %.200s", statistics)
	}
	return strconv.Atoi(strings.Fields(after)[0])
}

// Remove ends the fault. It may be called again; after an error the rule is
// still in force.
func (r *Rule) Remove() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slow {
		if err := run("tc", "-n", r.host.Name, "qdisc", "del", "dev", string(Peers), "root"); err != nil {
			return err
		}
		r.slow = false
	}
	for len(r.filters) > 0 {
		if err := r.host.iptables(slices.Concat([]string{"-D", "INPUT"}, r.filters[0])...); err != nil {
			return err
		}
		r.filters = r.filters[1:]
	}
	r.network.forget(r)
	return nil
}

// Heal removes all rules.
func (n *Network) Heal() error {
	n.mu.Lock()
	rules := slices.Clone(n.rules)
	n.mu.Unlock()
	var errs []error
	for _, r := range rules {
		errs = append(errs, r.Remove())
	}
	return errors.Join(errs...)
}

// iptables runs it on the host.
func (h *Host) iptables(words ...string) error {
	_, err := h.run("iptables", append([]string{"-w"}, words...)...)
	return err
}

// run runs a command on the host.
func (h *Host) run(name string, args ...string) (string, error) {
	words := slices.Concat(h.Wrap(), []string{name}, args)
	return output(words[0], words[1:]...)
}
