package deploy_test

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// manifests are the objects of deploy/kubernetes/base, by kind and name.
type manifests struct {
	set        appsv1.StatefulSet
	services   map[string]corev1.Service
	disruption policyv1.PodDisruptionBudget
}

// readManifests decodes every file of the base strictly: a field that Kubernetes
// does not know is an error, as it would be with kubeconform.
func readManifests(t *testing.T) manifests {
	t.Helper()
	m := manifests{services: map[string]corev1.Service{}}
	files, err := filepath.Glob("kubernetes/base/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	kinds := map[string]int{}
	for _, path := range files {
		if filepath.Base(path) == "kustomization.yaml" {
			continue
		}
		for _, document := range bytes.Split([]byte(read(t, path)), []byte("\n---\n")) {
			var of struct{ Kind string }
			if err := yaml.Unmarshal(document, &of); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			kinds[of.Kind]++
			switch of.Kind {
			case "StatefulSet":
				err = yaml.UnmarshalStrict(document, &m.set)
			case "Service":
				var s corev1.Service
				err = yaml.UnmarshalStrict(document, &s)
				m.services[s.Name] = s
			case "PodDisruptionBudget":
				err = yaml.UnmarshalStrict(document, &m.disruption)
			default:
				err = errors.New("this test does not know the kind " + of.Kind)
			}
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
		}
	}
	if kinds["StatefulSet"] != 1 || kinds["Service"] != 2 || kinds["PodDisruptionBudget"] != 1 {
		t.Fatalf("found %v", kinds)
	}
	return m
}

func TestKubernetes(t *testing.T) {
	m := readManifests(t)
	pod := m.set.Spec.Template.Spec
	c := pod.Containers[0]
	peers, users := m.services[m.set.Spec.ServiceName], m.services["lookupd"]
	for what, ok := range map[string]bool{
		"all pods start at once":                        m.set.Spec.PodManagementPolicy == appsv1.ParallelPodManagement,
		"the peers' Service is headless":                peers.Spec.ClusterIP == corev1.ClusterIPNone,
		"it has peers that are not ready":               peers.Spec.PublishNotReadyAddresses,
		"the users' Service has only those that are":    users.Name != "" && users.Spec.ClusterIP == "" && !users.Spec.PublishNotReadyAddresses,
		"Services put no variables into pods":           pod.EnableServiceLinks != nil && !*pod.EnableServiceLinks,
		"no token of the API is mounted":                pod.AutomountServiceAccountToken != nil && !*pod.AutomountServiceAccountToken,
		"one pod at a time may be drained":              m.disruption.Spec.MaxUnavailable != nil && m.disruption.Spec.MaxUnavailable.IntValue() == 1,
		"pods spread over zones and hosts":              len(pod.TopologySpreadConstraints) == 2,
		"liveness is /livez":                            c.LivenessProbe.HTTPGet.Path == "/livez" && c.StartupProbe.HTTPGet.Path == "/livez",
		"readiness is /readyz":                          c.ReadinessProbe.HTTPGet.Path == "/readyz",
		"the user is the image's":                       *pod.SecurityContext.RunAsUser == 65532 && *pod.SecurityContext.FSGroup == 65532,
		"not root":                                      *pod.SecurityContext.RunAsNonRoot && !*c.SecurityContext.AllowPrivilegeEscalation,
		"the root file system is read-only":             *c.SecurityContext.ReadOnlyRootFilesystem,
		"no capabilities":                               slices.Equal(c.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}),
		"seccomp":                                       pod.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault,
		"there is time to hand over":                    *pod.TerminationGracePeriodSeconds > 5,
		"others cannot read the secrets":                *pod.Volumes[0].Secret.DefaultMode == 0o440,
		"each pod has a disk":                           m.set.Spec.VolumeClaimTemplates[0].Name == c.VolumeMounts[0].Name,
		"GOMEMLIMIT is three quarters of the limit":     c.Resources.Limits.Memory().Value() == 512<<20 && env(c, "GOMEMLIMIT") == "384MiB",
		"the cluster begins with all replicas":          slices.Contains(c.Command, "-bootstrap-expect=3") && *m.set.Spec.Replicas == 3,
		"peers look for each other in their Service":    slices.Contains(c.Command, "-join="+peers.Name),
		"no peer runs without certificates":             !slices.Contains(c.Command, "-insecure"),
		"the state is on the disk":                      strings.HasPrefix(env(c, "LOOKUPD_DATA_PATH"), c.VolumeMounts[0].MountPath+"/"),
		"no flag is given that Services' names hit":     !slices.ContainsFunc(daemonFlags(t), func(f string) bool { return f == "port" || strings.HasPrefix(f, "service-") }),
		"the pods are those that the Services look for": selects(peers.Spec.Selector, m.set) && selects(users.Spec.Selector, m.set) && selects(m.disruption.Spec.Selector.MatchLabels, m.set),
	} {
		if !ok {
			t.Errorf("not so: %s", what)
		}
	}
	for _, s := range m.services {
		for _, p := range s.Spec.Ports {
			if !slices.ContainsFunc(c.Ports, func(of corev1.ContainerPort) bool {
				return of.Name == p.TargetPort.StrVal && of.ContainerPort == p.Port && (of.Protocol == p.Protocol || of.Protocol == "" && p.Protocol == "")
			}) {
				t.Errorf("%s: no container has the port %s", s.Name, p.Name)
			}
		}
	}
}

func env(c corev1.Container, name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

func selects(selector map[string]string, set appsv1.StatefulSet) bool {
	for key, value := range selector {
		if set.Spec.Template.Labels[key] != value {
			return false
		}
	}
	return len(selector) > 0
}

// The daemon takes the command and the variables, and secrets init makes the files.
func TestKubernetesCommand(t *testing.T) {
	set := readManifests(t).set
	c := set.Spec.Template.Spec.Containers[0]
	if c.Command[0] != "/lookupd" {
		t.Errorf("command %q", c.Command[0])
	}
	if out, err := run(t, "", filepath.Join(bin, "lookupd"), append(c.Command[1:], "-print-config")...); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, e := range c.Env {
		checkVariables(t, "statefulset.yaml", e.Name)
	}
	dir := t.TempDir()
	if out, err := run(t, dir, filepath.Join(bin, "lookupctl"), "secrets", "init", "made"); err != nil {
		t.Fatal(err, out)
	}
	for _, argument := range c.Command {
		if _, file, ok := strings.Cut(argument, "=/run/secrets/lookupd/"); ok {
			read(t, filepath.Join(dir, "made", file))
			if !strings.Contains(read(t, "kubernetes/base/statefulset.yaml"), "--from-file=DIR/"+file) {
				t.Errorf("the comment does not put %s into the Secret", file)
			}
		}
	}
}

// kustomize builds the base and each overlay.
func TestKustomize(t *testing.T) {
	kubectl := tool(t, "kubectl")
	built := 0
	err := filepath.WalkDir("kubernetes", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Base(path) != "kustomization.yaml" {
			return err
		}
		built++
		out, err := run(t, "", kubectl, "kustomize", filepath.Dir(path))
		if err != nil || !strings.Contains(out, "kind: StatefulSet") {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
		if strings.Contains(path, "example") && (!strings.Contains(out, "replicas: 5") || !strings.Contains(out, "image: registry.example.com/lookupd:0.1.0")) {
			t.Errorf("the overlay changes nothing:\n%s", out)
		}
		return nil
	})
	if err != nil || built != 2 {
		t.Error(built, err)
	}
}
