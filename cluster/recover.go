package cluster

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

// What follows is for peers that do not run: to look at their data directories,
// and to make one of them a cluster of its own when the quorum is lost for good.

// Remains is what a stopped peer's data directory holds.
type Remains struct {
	Path      string          `json:"path"`
	ID        registry.NodeID `json:"id"`
	ClusterID string          `json:"cluster_id"`
	Epoch     uint64          `json:"epoch"`
	Term      uint64          `json:"term"`
	FirstLog  uint64          `json:"first_log"` // 0 if the log is empty
	LastTerm  uint64          `json:"last_term"` // of the furthest entry, in log or snapshot
	LastIndex uint64          `json:"last_index"`
	Snapshot  uint64          `json:"snapshot"` // index of the newest, 0 without
	// Voters and NonVoters are the latest configuration, committed or not.
	Voters    []registry.NodeID `json:"voters"`
	NonVoters []registry.NodeID `json:"non_voters"`
}

// Ahead orders remains: whoever has the later term, then the longer log, would
// be elected.
func (r Remains) Ahead(of Remains) int {
	return cmp.Or(cmp.Compare(r.LastTerm, of.LastTerm), cmp.Compare(r.LastIndex, of.LastIndex))
}

// Examine reads a data directory without a change to it. Its errors are
// store.OpenOffline's.
func Examine(path string) (r Remains, err error) {
	o, err := store.OpenOffline(path)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	return remainsOf(path, o)
}

func remainsOf(path string, o *store.Offline) (Remains, error) {
	r := Remains{
		Path: path, ID: o.Identity.NodeID, ClusterID: o.Identity.ClusterID, Epoch: o.Identity.Epoch, Term: o.Term,
		FirstLog: o.First.Index, LastTerm: o.Last.Term, LastIndex: o.Last.Index,
		Voters: []registry.NodeID{}, NonVoters: []registry.NodeID{},
	}
	var configuration raft.Configuration
	if len(o.Snapshots) > 0 {
		newest := o.Snapshots[0]
		r.Snapshot, configuration = newest.Position.Index, newest.Configuration
		if newest.Position.Index > r.LastIndex {
			r.LastTerm, r.LastIndex = newest.Position.Term, newest.Position.Index
		}
	}
	err := o.Entries(r.Snapshot+1, func(entry *raft.Log) error {
		if entry.Type == raft.LogConfiguration {
			configuration = raft.DecodeConfiguration(entry.Data) // OpenOffline has tried
		}
		return nil
	})
	for _, s := range configuration.Servers {
		if s.Suffrage == raft.Voter {
			r.Voters = append(r.Voters, registry.NodeID(s.ID))
		} else {
			r.NonVoters = append(r.NonVoters, registry.NodeID(s.ID))
		}
	}
	slices.Sort(r.Voters)
	slices.Sort(r.NonVoters)
	return r, err
}

// Entry is one entry of a stopped peer's log.
type Entry struct {
	Index, Term uint64
	Kind        string // command, configuration, noop or barrier
	What        string
	Bytes       int
}

// ReadLog calls fn for the entries of a stopped peer's log from index on until
// fn returns false.
func ReadLog(path string, from uint64, fn func(Entry) bool) (err error) {
	o, err := store.OpenOffline(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	enough := errors.New("enough")
	err = o.Entries(from, func(l *raft.Log) error {
		if !fn(entryOf(l)) {
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		return nil
	}
	return err
}

func entryOf(l *raft.Log) Entry {
	e := Entry{Index: l.Index, Term: l.Term, Bytes: len(l.Data)}
	switch l.Type {
	case raft.LogCommand:
		e.Kind = "command"
		batch, err := fsm.DecodeBatch(l.Data)
		if err != nil {
			e.What = err.Error()
			break
		}
		e.What = "by the leader:"
		if batch.Origin != "" {
			e.What = fmt.Sprintf("by %s, start %d, batch %d:", batch.Origin, batch.Epoch, batch.Number)
		}
		for _, c := range batch.Commands {
			e.What += fmt.Sprintf(" %s%+v", commandName(c), c)
		}
	case raft.LogConfiguration:
		e.Kind = "configuration"
		for _, s := range raft.DecodeConfiguration(l.Data).Servers {
			e.What += fmt.Sprintf("%s %s ", s.Suffrage, s.ID)
		}
	case raft.LogBarrier:
		e.Kind = "barrier"
	default:
		e.Kind = "noop"
	}
	return e
}

// commandName is the type's name without its package.
func commandName(c registry.Command) string {
	name := fmt.Sprintf("%T", c)
	return name[len("registry."):]
}

// failures are what a log or a state machine gave up with, from any goroutine.
type failures struct {
	mu  sync.Mutex
	err error
}

func (f *failures) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = errors.Join(f.err, err)
}

func (f *failures) all() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Rebuild makes, in the empty directory scratch, the state that a stopped peer
// would have with all of its log applied, and calls fn with a snapshot of it.
// Entries that were never committed count too.
func Rebuild(path, scratch string, log *slog.Logger, fn func(*fsm.Saved) error) (err error) {
	o, err := store.OpenOffline(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	var fatal failures
	machine, err := fsm.New(fsm.Config{
		Dir: scratch, ClusterID: func() string { return o.Identity.ClusterID }, Logger: log, OnFatal: fatal.add,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, machine.Close()) }()
	from, err := restoreNewest(o, machine)
	if err != nil {
		return err
	}
	err = o.Entries(from, func(entry *raft.Log) error {
		if entry.Index != from {
			return fmt.Errorf("%w: entries %d to %d are missing", store.ErrDamaged, from, entry.Index-1)
		}
		from++
		machine.ApplyBatch([]*raft.Log{entry})
		return fatal.all()
	})
	if err != nil {
		return err
	}
	saved, err := machine.Save()
	if err != nil {
		return err
	}
	defer saved.Release()
	return fn(saved)
}

// restoreNewest restores the newest snapshot that is sound and returns the index
// of the first entry after it.
func restoreNewest(o *store.Offline, machine *fsm.FSM) (from uint64, err error) {
	var errs []error
	for _, s := range o.Snapshots {
		content, err := o.OpenSnapshot(s.Name)
		if err == nil {
			err = errors.Join(machine.Restore(content), content.Close())
		}
		if err == nil {
			return s.Position.Index + 1, nil
		}
		errs = append(errs, fmt.Errorf("snapshot %s: %w", s.Name, err))
	}
	if len(errs) > 0 && o.First.Index > 1 {
		return 0, errors.Join(errs...)
	}
	return 1, nil
}

// Recover makes the peer of a data directory the only voter of a new cluster
// that has its registry. All entries of its log count as committed then, those
// that never were too. The new cluster has an id of its own: the peers of the
// old one are strangers to it, so that they cannot found a second leader beside
// it. No process may use the directory, and a copy of it should exist: a crash
// half way leaves it refused.
func Recover(path string, log *slog.Logger) (r Remains, err error) {
	if r, err = Examine(path); err != nil {
		return r, err
	}
	dir, err := store.OpenDir(path)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	id, _, err := dir.LoadIdentity()
	if err != nil {
		return r, err
	}
	var next [16]byte
	rand.Read(next[:]) // never fails
	recovered := id
	recovered.ClusterID, recovered.Founders = hex.EncodeToString(next[:]), nil
	if err := rewriteRaft(dir, id, recovered.ClusterID, log); err != nil {
		return r, err
	}
	// Where strangers live is of no use; what raft/peers.json asks for is done.
	for _, path := range []string{dir.Path("peers.json"), peersFile(path)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
	}
	if err := dir.SaveIdentity(recovered); err != nil {
		return r, err
	}
	r.ClusterID, r.Voters, r.NonVoters = recovered.ClusterID, []registry.NodeID{id.NodeID}, []registry.NodeID{}
	return r, nil
}

// rewriteRaft puts all of the log into a snapshot of the new cluster and empties
// the log.
func rewriteRaft(dir *store.Dir, id store.Identity, next string, log *slog.Logger) (err error) {
	var fatal failures
	defer func() { err = errors.Join(err, fatal.all()) }()
	logs, err := dir.OpenLog(store.LogConfig{OnFatal: fatal.add})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logs.Close()) }()
	usable := func(r io.Reader) error {
		_, err := fsm.Inspect(r)
		return err
	}
	if _, err := dir.Verify(id, logs, raftLogger(log), usable); err != nil {
		return err
	}
	if err := os.RemoveAll(dir.Path("state")); err != nil {
		return err
	}
	if err := os.Mkdir(dir.Path("state"), 0o700); err != nil {
		return err
	}
	machine := &recovering{clusterID: id.ClusterID, next: next}
	if machine.FSM, err = fsm.New(fsm.Config{
		Dir: dir.Path("state"), ClusterID: func() string { return machine.clusterID }, Logger: log, OnFatal: fatal.add,
	}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, machine.Close()) }()
	snapshots, err := dir.OpenSnapshots(raftLogger(log))
	if err != nil {
		return err
	}
	cfg := raft.DefaultConfig()
	cfg.LocalID, cfg.Logger, cfg.NoLegacyTelemetry = raft.ServerID(id.NodeID), raftLogger(log), true
	_, transport := raft.NewInmemTransport(raft.ServerAddress(id.NodeID))
	return raft.RecoverCluster(cfg, machine, logs, logs, sameConfiguration{snapshots, machine.FSM}, transport,
		firstConfiguration([]registry.NodeID{id.NodeID}))
}

// recovering is the state machine of raft.RecoverCluster, which restores the old
// cluster's snapshot and takes one for the new cluster.
type recovering struct {
	*fsm.FSM
	clusterID, next string
	taken           raft.FSMSnapshot // nil before
}

// Snapshot implements raft.FSM.
func (r *recovering) Snapshot() (taken raft.FSMSnapshot, err error) {
	r.clusterID = r.next
	if taken, err = r.FSM.Snapshot(); err == nil {
		r.taken = taken
	}
	return taken, err
}

// Close also releases the snapshot, which RecoverCluster does not.
func (r *recovering) Close() error {
	if r.taken != nil {
		r.taken.Release()
	}
	return r.FSM.Close()
}

// sameConfiguration keeps raft and the state of one mind about the index of the
// configuration: RecoverCluster says 1, and every later change would be refused
// as meant for another.
type sameConfiguration struct {
	*store.Snapshots
	state *fsm.FSM
}

// Create implements raft.SnapshotStore.
func (s sameConfiguration) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	_ uint64, transport raft.Transport,
) (raft.SnapshotSink, error) {
	return s.Snapshots.Create(version, index, term, configuration, max(s.state.ConfigurationIndex(), 1), transport)
}
