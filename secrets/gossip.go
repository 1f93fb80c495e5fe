package secrets

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// GossipKeyBytes is the size of a key: AES-256.
const GossipKeyBytes = 32

// maxGossipKeys is more than any rotation needs; each packet may be tried with all.
const maxGossipKeys = 8

// GossipKeys holds one key or more. The first is what a peer encrypts with; it
// reads what is encrypted with any of them.
type GossipKeys [][]byte

// Same reports whether both are the same keys in the same order.
func (k GossipKeys) Same(other GossipKeys) bool { return slices.EqualFunc(k, other, bytes.Equal) }

// LoadGossipKeys reads a file with a key in base64 on each line. Empty lines
// and those that begin with # do not count.
func LoadGossipKeys(path string) (GossipKeys, error) {
	text, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseGossipKeys(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

func parseGossipKeys(text string) (keys GossipKeys, err error) {
	number := 0
	for line := range strings.Lines(text) {
		number++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		switch {
		case err != nil: // it tells a position alone, but says so for the line
			return nil, fmt.Errorf("line %d is not base64", number)
		case len(key) != GossipKeyBytes:
			return nil, fmt.Errorf("line %d holds a key of %d bytes, want %d", number, len(key), GossipKeyBytes)
		case len(keys) == maxGossipKeys:
			return nil, fmt.Errorf("more than %d keys", maxGossipKeys)
		}
		if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no key, want 32 bytes in base64 on a line (head -c 32 /dev/urandom | base64)")
	}
	return keys, nil
}
