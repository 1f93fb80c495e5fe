package secrets_test

import (
	"encoding/base64"
	"os"
	"strings"
	"testing"

	"github.com/lookupd/lookupd/secrets"
	"github.com/lookupd/lookupd/secrets/secretstest"
)

func TestGossipKeys(t *testing.T) {
	one, two := secretstest.GossipKey(), secretstest.GossipKey()
	path := secretstest.WriteGossipKeys(t, t.TempDir(), "# from vault\n\n", one, "  "+strings.TrimSpace(two)+"\r\n", one)
	keys, err := secrets.LoadGossipKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 2 || base64.StdEncoding.EncodeToString(keys[0])+"\n" != one {
		t.Errorf("%d keys, or another first", len(keys))
	}
	again, err := secrets.LoadGossipKeys(secretstest.WriteGossipKeys(t, t.TempDir(), two, one))
	if err != nil || again.Same(keys) || !keys.Same(keys) {
		t.Errorf("the order makes no difference, %v", err)
	}
}

func TestBadGossipKeys(t *testing.T) {
	good := secretstest.GossipKey()
	encode := func(size int) string { return base64.StdEncoding.EncodeToString(make([]byte, size)) + "\n" }
	many := make([]string, 9)
	for i := range many {
		many[i] = secretstest.GossipKey()
	}
	for name, c := range map[string]struct {
		keys []string
		mode os.FileMode
		want string
	}{
		"C8 empty":              {nil, 0o600, "no key"},
		"C8 15 bytes":           {[]string{encode(15)}, 0o600, "line 1 holds a key of 15 bytes, want 32"},
		"C8 16 bytes":           {[]string{good, encode(16)}, 0o600, "line 2 holds a key of 16 bytes"},
		"C8 not base64":         {[]string{"correct horse battery staple\n"}, 0o600, "line 1 is not base64"},
		"C8 more than a key":    {[]string{strings.TrimSpace(good) + good}, 0o600, "line 1"},
		"C8 too many":           {many, 0o600, "more than 8"},
		"C8 all may read it":    {[]string{good}, 0o644, "mode 0644: others can read it: chmod 0600"},
		"C8 the group writes":   {[]string{good}, 0o660, "others can write it"},
		"C8 all may execute it": {[]string{good}, 0o611, "others can read it"},
	} {
		t.Run(name, func(t *testing.T) {
			path := secretstest.WriteGossipKeys(t, t.TempDir(), c.keys...)
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := secrets.LoadGossipKeys(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			for _, key := range c.keys {
				if strings.Contains(err.Error(), strings.TrimSpace(key)) {
					t.Errorf("the key is in the error: %v", err)
				}
			}
		})
	}
	if _, err := secrets.LoadGossipKeys(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a directory: %v", err)
	}
}
