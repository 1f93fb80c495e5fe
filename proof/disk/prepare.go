package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lookupd/lookupd/supervisor"
)

// specimens are data directories to damage, and what is in them.
type specimens struct {
	dir   string // base/NAME and older/NAME
	books []*book
	pages map[string]boltPages // of base's raft.db, by peer
	// laggard's log ends before the others': what came later is acknowledged by
	// the other two alone.
	laggard string
}

const (
	olderFor   = 2 * time.Second  // traffic before the older copies are taken
	laggardOff = 1 * time.Second  // traffic without the laggard
	snapshotBy = 90 * time.Second // limit for every peer's snapshots
)

func (s *specimens) base(name string) string  { return filepath.Join(s.dir, "base", name) }
func (s *specimens) older(name string) string { return filepath.Join(s.dir, "older", name) }

// prepare fills a cluster, until each peer has so many snapshots, and takes
// copies of its directories: early ones, then those to damage.
func (f *fleet) prepare(ctx context.Context, dir string, clients, snapshots int) (*specimens, error) {
	s := &specimens{dir: dir, laggard: "c", pages: map[string]boltPages{}}
	peers := f.cluster.Peers
	if err := f.fill(ctx, s, clients, "early", func() error { return sleep(ctx, olderFor) }); err != nil {
		return nil, err
	}
	if err := s.take(peers, s.older); err != nil {
		return nil, err
	}
	// One start more in between: a single one may have been cut off by a crash,
	// and an identity that is one start behind is accepted.
	if err := f.fill(ctx, s, clients, "between", func() error { return nil }); err != nil {
		return nil, err
	}
	err := f.fill(ctx, s, clients, "late", func() error {
		if err := untilSnapshots(ctx, peers, snapshots); err != nil {
			return err
		}
		if err := f.cluster.Peer(s.laggard).Kill(); err != nil {
			return err
		}
		return sleep(ctx, laggardOff)
	})
	if err != nil {
		return nil, err
	}
	if err := s.take(peers, s.base); err != nil {
		return nil, err
	}
	for _, p := range peers {
		if s.pages[p.Name()], err = readPages(filepath.Join(s.base(p.Name()), "raft", logFile)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// fill starts all peers, lets clients write until enough returns, and kills the
// peers while the connections are open: so no session ends.
func (f *fleet) fill(ctx context.Context, s *specimens, clients int, prefix string, enough func() error) error {
	peers := f.cluster.Peers
	if err := f.start(peers...); err != nil {
		return err
	}
	if err := f.waitWell(ctx, peers...); err != nil {
		return err
	}
	t := startTraffic(peers, clients, prefix)
	err := enough()
	t.stop()
	err = errors.Join(err, f.cluster.Kill())
	t.hangUp()
	s.books = append(s.books, t.book)
	return err
}

func (s *specimens) take(peers []*supervisor.Peer, where func(name string) string) error {
	for _, p := range peers {
		if err := copyDir(p.DataPath(), where(p.Name())); err != nil {
			return err
		}
	}
	return nil
}

// restore gives the peers their undamaged directories.
func (s *specimens) restore(peers []*supervisor.Peer) error {
	for _, p := range peers {
		if err := copyDir(s.base(p.Name()), p.DataPath()); err != nil {
			return err
		}
	}
	return nil
}

func untilSnapshots(ctx context.Context, peers []*supervisor.Peer, n int) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotBy)
	defer cancel()
	return supervisor.Poll(ctx, func(context.Context) error {
		for _, p := range peers {
			entries, err := os.ReadDir(filepath.Join(p.DataPath(), "raft", "snapshots"))
			if err != nil {
				return err
			}
			finished := 0
			for _, e := range entries {
				if filepath.Ext(e.Name()) != ".tmp" {
					finished++
				}
			}
			if finished < n {
				return fmt.Errorf("%s has %d snapshots", p.Name(), finished)
			}
		}
		return nil
	})
}
