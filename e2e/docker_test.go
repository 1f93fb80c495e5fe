package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// composeFile is the one that users start; the test runs it as it stands.
const composeFile = "docker-compose.yml"

// composition is docker-compose.yml, brought up under a name of its own.
type composition struct {
	t       *testing.T
	project string
	command []string // docker compose, or docker-compose
	env     []string
	peers   []string // HTTP addresses, in order a, b, c
	nsqd    string   // HTTP address of the first
	admin   string
}

// compose builds the images from binaries of this host and gives the
// composition ports that are free. Without an engine the test is skipped.
func compose(t *testing.T) *composition {
	t.Helper()
	c := &composition{t: t, project: fmt.Sprintf("lookupd-e2e-%d", os.Getpid())}
	if out, err := exec.CommandContext(within(t, patience), "docker", "info").CombinedOutput(); err != nil {
		skipNeeds(t, fmt.Sprintf("a Docker engine (%v: %.300s)", err, out))
	}
	for _, command := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		if exec.CommandContext(within(t, patience), command[0], append(command[1:], "version")...).Run() == nil {
			c.command = command
			break
		}
	}
	if c.command == nil {
		skipNeeds(t, "docker compose or docker-compose")
	}
	p, err := supervisor.FreePorts(11)
	if err != nil {
		t.Fatal(err)
	}
	name := c.project
	c.env = append(os.Environ(), "COMPOSE_PROJECT_NAME="+name, "LOOKUPD_IMAGE="+name+":lookupd", "NSQ_IMAGE="+name+":nsq")
	for i, key := range []string{
		"A_TCP", "A_HTTP", "B_TCP", "B_HTTP", "C_TCP", "C_HTTP", "NSQD_1_TCP", "NSQD_1_HTTP", "NSQD_2_TCP", "NSQD_2_HTTP", "NSQADMIN",
	} {
		c.env = append(c.env, fmt.Sprintf("PORT_%s=%d", key, p[i]))
	}
	c.peers = []string{supervisor.Address(p[1]), supervisor.Address(p[3]), supervisor.Address(p[5])}
	c.nsqd, c.admin = supervisor.Address(p[7]), supervisor.Address(p[10])

	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.try("logs", "--no-color", "--tail", "40"))
		}
		c.run("--profile", "nsq", "down", "--volumes")
		for _, image := range []string{name + ":lookupd", name + ":nsq"} {
			c.exec("docker", "rmi", "--force", image)
		}
	})
	c.exec("deploy/image.sh", name+":lookupd")
	c.exec("deploy/image.sh", "--nsq", name+":nsq")
	return c
}

// run calls compose on the file, and must succeed.
func (c *composition) run(args ...string) string {
	c.t.Helper()
	return c.exec(c.command[0], append(append(c.command[1:], "-f", composeFile), args...)...)
}

// try is run whose failure does not matter.
func (c *composition) try(args ...string) string {
	out, _ := c.output(c.command[0], append(append(c.command[1:], "-f", composeFile), args...)...)
	return out
}

// exec runs a command in the root of the repository.
func (c *composition) exec(name string, args ...string) string {
	c.t.Helper()
	out, err := c.output(name, args...)
	if err != nil {
		c.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

func (c *composition) output(name string, args ...string) (string, error) {
	const limit = 3 * time.Minute // pulling nothing, building images
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = "..", c.env
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil {
		return out.String() + talk.String(), err
	}
	return out.String(), nil
}

// waitHealthy waits until Docker calls all these services healthy.
func (c *composition) waitHealthy(services ...string) {
	c.t.Helper()
	eventually(c.t, func(context.Context) error {
		for _, service := range services {
			id := strings.TrimSpace(c.run("ps", "-q", service))
			health := strings.TrimSpace(c.exec("docker", "inspect", "--format", "{{.State.Health.Status}}", id))
			if health != "healthy" {
				return fmt.Errorf("%s is %s", service, health)
			}
		}
		return nil
	})
}

// network returns the name of the network that a container is in.
func (c *composition) network(id string) string {
	c.t.Helper()
	return strings.TrimSpace(c.exec("docker", "inspect", "--format", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}", id))
}

// addresses are those of services in their network.
func (c *composition) addresses(services ...string) (all []string) {
	c.t.Helper()
	for _, service := range services {
		id := strings.TrimSpace(c.run("ps", "-q", service))
		all = append(all, strings.TrimSpace(c.exec("docker", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id)))
	}
	return all
}

// others waits until b and c call the cluster that; meanwhile no answer of
// theirs may lack what was declared.
func (c *composition) others(t *testing.T, state string) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		for _, address := range c.peers[1:] {
			if body, err := get(ctx, address, "/channels?topic=orders"); err == nil && !strings.Contains(body, "billing") {
				t.Errorf("%s answers %s", address, body)
			}
			body, err := get(ctx, address, "/v1/status")
			if err != nil {
				return err
			}
			var s clusterStatus
			if err := json.Unmarshal([]byte(body), &s); err != nil {
				return err
			}
			if s.State != state || len(s.Peers) != len(c.peers) {
				return fmt.Errorf("status %s, want %s", body, state)
			}
		}
		return nil
	})
}

// get returns the body of a path at an address, which must answer 200.
func get(ctx context.Context, address, path string) (string, error) {
	status, body, err := supervisor.Get(ctx, "http://"+address+path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("GET %s%s: %d %s", address, path, status, body)
	}
	return string(body), err
}

func TestCompose(t *testing.T) {
	skipShort(t, "builds images")
	c := compose(t)
	peers := []string{"lookupd-a", "lookupd-b", "lookupd-c"}
	c.run("up", "-d")
	c.waitHealthy(peers...)

	t.Run("one cluster", func(t *testing.T) {
		eventually(t, func(ctx context.Context) error {
			body, err := get(ctx, c.peers[0], "/v1/status")
			if err != nil {
				return err
			}
			var s clusterStatus
			if err := json.Unmarshal([]byte(body), &s); err != nil {
				return err
			}
			if s.State != "healthy" || len(s.Peers) != len(peers) {
				return fmt.Errorf("status %s", body)
			}
			return nil
		})
		for _, address := range c.peers {
			if body, err := get(within(t, patience), address, "/metrics"); err != nil || !strings.Contains(body, "\nlookupd_insecure 0\n") {
				t.Errorf("%s runs without certificates or gossip key: %v", address, err)
			}
		}
		mustPost(t, "http://"+c.peers[0]+"/channel/create?topic=orders&channel=billing")
		if body, err := get(within(t, patience), c.peers[2], "/channels?topic=orders"); err != nil || !strings.Contains(body, "billing") {
			t.Errorf("c knows %s %v, want the channel made at a", body, err)
		}
	})
	t.Run("image", func(t *testing.T) {
		id := strings.TrimSpace(c.run("ps", "-q", peers[0]))
		if user := strings.TrimSpace(c.exec("docker", "inspect", "--format", "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}}", id)); user != "65532:65532 true" {
			t.Errorf("user and read-only root: %s", user)
		}
		for _, program := range []string{"/lookupd", "/nsqlookupd", "/usr/local/bin/nsqlookupd", "lookupd"} {
			if out := c.exec("docker", "exec", id, program, "-version"); !strings.Contains(out, "lookupd v") {
				t.Errorf("%s -version: %q", program, out)
			}
		}
		if out := c.exec("docker", "exec", id, "lookupctl", "status"); !strings.HasPrefix(out, "Healthy.") {
			t.Errorf("lookupctl status: %q", out)
		}
	})
	t.Run("nsqd and nsqadmin", func(t *testing.T) {
		c.run("--profile", "nsq", "up", "-d")
		eventually(t, func(ctx context.Context) error {
			_, _, err := try(ctx, http.MethodPost, "http://"+c.nsqd+"/pub?topic=shipped", "", "x")
			return err
		})
		eventually(t, func(ctx context.Context) error {
			body, err := get(ctx, c.peers[1], "/lookup?topic=shipped")
			if err == nil && !strings.Contains(body, `"nsqd-1"`) {
				err = fmt.Errorf("lookup %s", body)
			}
			return err
		})
		eventually(t, func(ctx context.Context) error {
			answer, err := askAdmin(ctx, http.MethodGet, "http://"+c.admin+"/api/nodes", nil)
			if err == nil && len(answer.Nodes) != 2 {
				err = fmt.Errorf("%d nodes, want 2", len(answer.Nodes))
			}
			return err
		})
	})
	t.Run("killed", func(t *testing.T) {
		victim := strings.TrimSpace(c.run("ps", "-q", peers[0]))
		c.exec("docker", "kill", victim) // by hand, so Docker does not restart it
		c.others(t, "degraded")
		c.exec("docker", "start", victim)
		c.waitHealthy(peers...)
		c.others(t, "healthy")
	})
	t.Run("cut off", func(t *testing.T) {
		victim := strings.TrimSpace(c.run("ps", "-q", peers[0]))
		network := c.network(victim)
		c.exec("docker", "network", "disconnect", network, victim)
		c.others(t, "degraded")
		if out, err := c.output("docker", "exec", victim, "lookupctl", "lookup", "shipped"); err == nil {
			t.Errorf("a peer that is cut off answers: %s", out)
		}
		c.exec("docker", "network", "connect", "--alias", peers[0], network, victim)
		c.others(t, "healthy")
		eventually(t, func(context.Context) error { // until it has heard from the leader
			out, err := c.output("docker", "exec", victim, "lookupctl", "lookup", "shipped")
			if err == nil && !strings.Contains(out, "nsqd-1") {
				t.Errorf("after its return it answers %s", out)
			}
			return err
		})
	})
	t.Run("new containers and addresses, old state", func(t *testing.T) {
		first := strings.TrimSpace(c.run("ps", "-q", peers[0]))
		before := c.addresses(peers...)
		subnet := strings.TrimSpace(c.exec("docker", "network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", c.network(first)))
		c.run("--profile", "nsq", "down") // removes the containers and the network
		// Else Docker may give out the same addresses again.
		taken := c.project + "-taken"
		c.exec("docker", "network", "create", "--subnet", subnet, taken)
		t.Cleanup(func() { c.exec("docker", "network", "rm", taken) })
		c.run("up", "-d")
		c.waitHealthy(peers...)
		for _, address := range c.peers {
			if body, err := get(within(t, patience), address, "/topics"); err != nil || !strings.Contains(body, `["orders","shipped"]`) {
				t.Errorf("topics %s %v, want those of before", body, err)
			}
		}
		for i, address := range c.addresses(peers...) {
			if slices.Contains(before, address) {
				t.Errorf("%s has %s, which is no new address", peers[i], address)
			}
		}
		c.others(t, "healthy")
	})
}
