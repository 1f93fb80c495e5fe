package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// Done is a fault that took effect.
type Done struct{ Kind, Evidence string }

// DockerMissing returns "", or what this machine lacks for a DockerRound.
func DockerMissing(ctx context.Context) string {
	if _, err := docker(ctx, "info"); err != nil {
		return fmt.Sprintf("a Docker engine (%v)", err)
	}
	return ""
}

// DockerRound builds the image from the module at root, starts three containers
// that are one cluster, and takes each of its faults at them once, in random
// order, while topics are made through all peers. It returns the faults that
// took effect, and an ErrViolation if a topic whose making was acknowledged is
// not at every peer in the end. Nothing of it is left in the engine.
func DockerRound(ctx context.Context, root string, random *rand.Rand) (done []Done, acknowledged int, err error) {
	r := &dockerRound{name: fmt.Sprintf("lookupd-proof-%d", os.Getpid()), random: random}
	defer func() { err = errors.Join(err, r.remove(ctx)) }()
	if err := r.start(ctx, root); err != nil {
		return nil, 0, fmt.Errorf("docker round: %w", err)
	}
	traffic := startTopics(r.addresses())
	defer traffic.stop()
	faults := []struct {
		kind string
		run  func(context.Context, *container) (string, error)
		who  func(leader string) []*container
	}{
		{"Docker: pause leader", r.pause, r.leads},
		{"Docker: pause follower", r.pause, r.follows},
		{"Docker: disconnect leader", r.disconnect, r.leads},
		{"Docker: disconnect follower", r.disconnect, r.follows},
		{"Docker: kill leader", r.kill, r.leads},
		{"Docker: restart all with other addresses", r.moveAll, r.leads},
	}
	random.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	for _, f := range faults {
		leader, err := r.waitHealthy(ctx)
		if err != nil {
			return done, 0, fmt.Errorf("%s: %w: %w", f.kind, ErrNotWhole, err)
		}
		candidates := f.who(leader)
		evidence, err := f.run(ctx, candidates[random.IntN(len(candidates))])
		if err != nil {
			return done, 0, fmt.Errorf("%s: %w", f.kind, err)
		}
		done = append(done, Done{f.kind, evidence})
	}
	if _, err := r.waitHealthy(ctx); err != nil {
		return done, 0, fmt.Errorf("%w: %w", ErrNotWhole, err)
	}
	acknowledged, err = traffic.check(ctx)
	return done, acknowledged, err
}

// dockerRound is three containers on two networks: one for peers, in which each
// is known as NAME.peers, and Docker's own, through which the process asks them.
type dockerRound struct {
	name       string
	random     *rand.Rand
	containers []*container
}

// container is one peer.
type container struct {
	peer string // its name in the cluster
	id   string // its name in the engine
	http string // address
}

func (c *container) alias() string { return c.peer + ".peers" }

func docker(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil {
		const shown = 300
		return "", fmt.Errorf("docker %s: %w: %.*s", strings.Join(args, " "), err, shown, strings.TrimSpace(talk.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

func (r *dockerRound) start(ctx context.Context, root string) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "deploy", "image.sh"), r.name)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, out)
	}
	if _, err := docker(ctx, "network", "create", r.name); err != nil {
		return err
	}
	ports, err := supervisor.FreePorts(3)
	if err != nil {
		return err
	}
	for i, peer := range []string{"a", "b", "c"} {
		c := &container{peer: peer, id: r.name + "-" + peer, http: supervisor.Address(ports[i])}
		if _, err := docker(ctx, "create", "--name", c.id, "--publish", c.http+":4161", r.name, "/lookupd",
			"-node-name", c.peer, "-broadcast-address", c.alias(), "-bootstrap-expect", "3", "-join", "a.peers,b.peers,c.peers", "-insecure"); err != nil {
			return err
		}
		r.containers = append(r.containers, c)
		if err := r.connect(ctx, c); err != nil {
			return err
		}
	}
	for _, c := range r.containers {
		if _, err := docker(ctx, "start", c.id); err != nil {
			return err
		}
	}
	return nil
}

// remove takes everything out of the engine, as far as it was made.
func (r *dockerRound) remove(ctx context.Context) error {
	ctx, cancel := healing(ctx)
	defer cancel()
	var errs []error
	for _, c := range r.containers {
		_, err := docker(ctx, "rm", "--force", "--volumes", c.id)
		errs = append(errs, err)
	}
	for _, kind := range []string{"network", "image"} {
		if made, _ := docker(ctx, kind, "inspect", "--format", "x", r.name); made != "" {
			_, err := docker(ctx, kind, "rm", r.name)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (r *dockerRound) connect(ctx context.Context, c *container) error {
	_, err := docker(ctx, "network", "connect", "--alias", c.alias(), r.name, c.id)
	return err
}

func (r *dockerRound) addresses() (http []string) {
	for _, c := range r.containers {
		http = append(http, c.http)
	}
	return http
}

func (r *dockerRound) leads(leader string) []*container {
	return slices.DeleteFunc(slices.Clone(r.containers), func(c *container) bool { return c.peer != leader })
}

func (r *dockerRound) follows(leader string) []*container {
	return slices.DeleteFunc(slices.Clone(r.containers), func(c *container) bool { return c.peer == leader })
}

// waitHealthy waits until all peers say that the cluster is healthy, under the
// same leader.
func (r *dockerRound) waitHealthy(ctx context.Context) (leader string, err error) {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	err = supervisor.Poll(ctx, func(ctx context.Context) error {
		leader = ""
		for _, c := range r.containers {
			var s status
			if err := getJSON(ctx, c.http, "/v1/status", &s); err != nil {
				return err
			}
			if s.State != "healthy" || s.Leader == "" || leader != "" && s.Leader != leader {
				return fmt.Errorf("%s is %s under %q", c.peer, s.State, s.Leader)
			}
			leader = s.Leader
		}
		return nil
	})
	return leader, err
}

// missed waits until another peer says that this one is down, while a majority
// serves.
func (r *dockerRound) missed(ctx context.Context, gone *container) (string, error) {
	witness := r.follows(gone.peer)[0]
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	var said string
	err := supervisor.Poll(ctx, func(ctx context.Context) error {
		var s status
		if err := getJSON(ctx, witness.http, "/v1/status", &s); err != nil {
			return err
		}
		for _, p := range s.Peers {
			if p.Name == gone.peer && p.Health == "down" && s.Leader != "" && s.Leader != gone.peer {
				said = fmt.Sprintf("%s says that %s is down, %s leads in term %d", witness.peer, gone.peer, s.Leader, s.Term)
				return nil
			}
		}
		return fmt.Errorf("%w: %s says %+v", ErrNoEvidence, witness.peer, s)
	})
	return said, err
}

// away holds a fault for a while after another peer has noticed it, and then
// undoes it.
func (r *dockerRound) away(ctx context.Context, c *container, undo func(context.Context) error) (string, error) {
	said, err := r.missed(ctx, c)
	if err == nil {
		err = hold(ctx, time.Duration(r.random.Int64N(int64(3*time.Second))))
	}
	heal, cancel := healing(ctx)
	defer cancel()
	return said, errors.Join(err, undo(heal))
}

func (r *dockerRound) pause(ctx context.Context, c *container) (string, error) {
	if _, err := docker(ctx, "pause", c.id); err != nil {
		return "", err
	}
	return r.away(ctx, c, func(ctx context.Context) error {
		_, err := docker(ctx, "unpause", c.id) // an error if it is not paused
		return err
	})
}

func (r *dockerRound) disconnect(ctx context.Context, c *container) (string, error) {
	if _, err := docker(ctx, "network", "disconnect", r.name, c.id); err != nil {
		return "", err
	}
	return r.away(ctx, c, func(ctx context.Context) error { return r.connect(ctx, c) })
}

func (r *dockerRound) kill(ctx context.Context, c *container) (string, error) {
	if _, err := docker(ctx, "kill", c.id); err != nil {
		return "", err
	}
	code, err := docker(ctx, "wait", c.id)
	if err == nil && code != "137" {
		err = fmt.Errorf("%w: exit code %s", ErrNoEvidence, code)
	}
	said, awayErr := r.away(ctx, c, func(ctx context.Context) error {
		_, err := docker(ctx, "start", c.id)
		return err
	})
	return "exit code " + code + "; " + said, errors.Join(err, awayErr)
}

// moveAll stops all containers and starts them with other addresses: in a fresh
// network that gives them out in another order.
func (r *dockerRound) moveAll(ctx context.Context, _ *container) (string, error) {
	before, err := r.networkAddresses(ctx)
	if err != nil {
		return "", err
	}
	for _, c := range r.containers {
		if _, err := docker(ctx, "stop", c.id); err != nil {
			return "", err
		}
		if _, err := docker(ctx, "network", "disconnect", r.name, c.id); err != nil {
			return "", err
		}
	}
	// An engine gives a container its address when it starts: the order is it.
	order := []*container{r.containers[1], r.containers[2], r.containers[0]}
	for _, c := range order {
		if err := r.connect(ctx, c); err != nil {
			return "", err
		}
		if _, err := docker(ctx, "start", c.id); err != nil {
			return "", err
		}
	}
	after, err := r.networkAddresses(ctx)
	if err == nil && before == after {
		err = fmt.Errorf("%w: addresses %s as before", ErrNoEvidence, after)
	}
	return fmt.Sprintf("addresses %s, then %s", before, after), err
}

func (r *dockerRound) networkAddresses(ctx context.Context) (string, error) {
	var all []string
	for _, c := range r.containers {
		ip, err := docker(ctx, "inspect", "--format", fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", r.name), c.id)
		if err != nil {
			return "", err
		}
		all = append(all, ip)
	}
	return strings.Join(all, " "), nil
}
