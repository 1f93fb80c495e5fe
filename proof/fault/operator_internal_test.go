package fault

import (
	"slices"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/secrets"
)

// At each step of a rotation peers that took it and peers that did not yet must
// trust each other: what one shows, or encrypts with, the other knows.
func TestRotationKeepsTrust(t *testing.T) {
	files := func(name string) secretFiles {
		return secretFiles{
			secrets.AuthorityFile: []byte("authority " + name + "\n"), secrets.CertificateFile: []byte("certificate " + name + "\n"),
			secrets.KeyFile: []byte("key " + name + "\n"), secrets.GossipKeyFile: []byte("gossip " + name + "\n"),
		}
	}
	trusts := func(a, b secretFiles) bool {
		_, signer, _ := strings.Cut(string(b[secrets.CertificateFile]), " ")
		first, _, _ := strings.Cut(string(b[secrets.GossipKeyFile]), "\n")
		return strings.Contains(string(a[secrets.AuthorityFile]), "authority "+signer) &&
			strings.Contains(string(a[secrets.GossipKeyFile]), first+"\n")
	}
	old, fresh := files("old"), files("new")
	before := old
	for i, step := range rotation(old, fresh) {
		after := before.with(step)
		if !trusts(before, after) || !trusts(after, before) {
			t.Errorf("step %d parts those who took it from those who did not: %s and %s", i+1, before, after)
		}
		before = after
	}
	for name, content := range fresh {
		if string(before[name]) != string(content) {
			t.Errorf("%s is %q in the end", name, before[name])
		}
	}
}

func TestImportOps(t *testing.T) {
	ops, err := importOps([]byte(`{"create":[{"topic":"t"},{"topic":"u","channels":["c","d"]}],"delete":null}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, op := range ops {
		got = append(got, strings.TrimSpace(op.Kind.String()+" "+op.Topic+" "+op.Channel))
	}
	want := []string{"create-topic t", "create-topic u", "create-channel u c", "create-channel u d"}
	if !slices.Equal(got, want) || ops[0].Kind != history.CreateTopic {
		t.Errorf("%q, want %q", got, want)
	}
}
