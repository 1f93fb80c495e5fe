package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/lookupd/lookupd/secrets"
)

// keysEvery is how often the file with the gossip keys is looked at.
const keysEvery = time.Second

func (g *gossip) loadKeys(path string) error {
	load := func() (secrets.GossipKeys, error) { return secrets.LoadGossipKeys(path) }
	keys, err := load()
	if err != nil {
		return err
	}
	g.keyFile = secrets.NewWatch(keys, load)
	g.keys, err = memberlist.NewKeyring(keys, keys[0])
	return err
}

// followKeys takes in keys that have changed, until ctx ends.
func (g *gossip) followKeys(ctx context.Context) {
	if g.keys == nil {
		return
	}
	tick := time.NewTicker(keysEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		keys, changed, err := g.keyFile.Look()
		if changed {
			err = useKeys(g.keys, keys)
		}
		switch {
		case err != nil:
			g.log.Error("the gossip keys on disk cannot be used, those from before stay in use", "err", err)
		case changed:
			g.log.Info("gossip keys were read again", "keys", len(keys))
		}
	}
}

// useKeys makes a ring hold these keys alone, and encrypt with the first.
func useKeys(ring *memberlist.Keyring, keys secrets.GossipKeys) error {
	for _, key := range keys {
		if err := ring.AddKey(key); err != nil {
			return err
		}
	}
	if err := ring.UseKey(keys[0]); err != nil {
		return err
	}
	held := slices.Clone(ring.GetKeys())
	if len(held) == len(keys) {
		return nil
	}
	// RemoveKey moves what follows a key inside the slice that memberlist reads
	// meanwhile. So all go but the first, each while it is the last, and those
	// that stay come back: a packet lost in between is sent again.
	for _, key := range slices.Backward(held[1:]) {
		if err := ring.RemoveKey(key); err != nil {
			return err
		}
	}
	for _, key := range keys[1:] {
		if err := ring.AddKey(key); err != nil {
			return err
		}
	}
	return nil
}
