package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lookupd/lookupd/fsm"
	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
	"github.com/lookupd/lookupd/supervisor"
)

func backupKinds() []Kind {
	kind := func(name string, run func(context.Context, *Target) (string, error)) Kind {
		return Kind{Name: name, Needs: needsRecorder, Run: run}
	}
	return []Kind{
		kind("save backups", saveBackups),
		kind("restore a damaged backup", restoreDamaged),
		kind("restore a backup", restoreBackup),
	}
}

// saveTimeout bounds the attempts to save a backup: as a read it gets an error
// while nobody leads.
const saveTimeout = 30 * time.Second

// backup is a file that lookupctl saved, and what it says of it.
type backup struct {
	path  string
	from  *supervisor.Peer
	index uint64
}

func (b backup) String() string {
	return fmt.Sprintf("%s of %s at index %d", filepath.Base(b.path), b.from.Name(), b.index)
}

// saveBackups saves the registry at some peers, one after another, under the
// load that there is.
func saveBackups(ctx context.Context, t *Target) (string, error) {
	var saved []string
	for _, p := range everyPeer(t, nil, nil)[:1+t.Rand.IntN(len(t.Cluster.Peers))] {
		b, err := t.save(ctx, p)
		if err != nil {
			return strings.Join(saved, ", "), err
		}
		saved = append(saved, b.String())
		if err := hold(ctx, t.between(0, time.Second)); err != nil {
			return strings.Join(saved, ", "), err
		}
	}
	return strings.Join(saved, ", "), nil
}

// save saves a backup of a peer, which must be whole, and records what is in it:
// that is a read of everything, at one index.
func (t *Target) save(ctx context.Context, p *supervisor.Peer) (b backup, err error) {
	dir := filepath.Join(t.Dir, "backups")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return b, err
	}
	b = backup{path: filepath.Join(dir, fmt.Sprintf("%d.snapshot", time.Now().UnixNano())), from: p}
	waiting, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	var called, returned int64
	err = supervisor.Poll(waiting, func(ctx context.Context) error {
		called = t.Recorder.Now()
		_, err := t.lookupctl(ctx, t.HTTPAddress(p), "snapshot", "save", b.path)
		returned = t.Recorder.Now()
		return err
	})
	if err != nil {
		return b, err
	}
	var told struct {
		Sound bool   `json:"sound"`
		Index uint64 `json:"index"`
	}
	out, err := t.lookupctl(ctx, t.HTTPAddress(p), "snapshot", "inspect", b.path, "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &told)
	}
	if err != nil || !told.Sound {
		return b, fmt.Errorf("%w: a backup that was just saved is not sound: %s %w", ErrViolation, out, err)
	}
	b.index = told.Index
	op := &history.Op{
		Client: Operator, Kind: history.Backup, Outcome: history.OK, Peer: p.Name(), Call: called, Return: returned, Index: b.index,
	}
	if err := readBackup(b.path, op); err != nil {
		return b, fmt.Errorf("%w: %s: %w", ErrViolation, b, err)
	}
	t.Recorder.Add(op)
	return b, nil
}

// readBackup reads all of a backup as answers.
func readBackup(path string, into *history.Op) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return fsm.ReadSnapshot(file, filepath.Dir(path), func(info fsm.SnapshotInfo, v *store.View) error {
		if info.Index != into.Index {
			return fmt.Errorf("its index is %d, inspect says %d", info.Index, into.Index)
		}
		into.Topics, into.Nodes = v.Topics(), v.Nodes()
		into.Saved = &history.Saved{
			Shown: map[string]registry.Topic{}, Registrations: v.Registrations(),
			Sessions: map[registry.ProducerID][]registry.SessionState{},
		}
		for _, topic := range into.Topics {
			into.Saved.Shown[topic], _ = v.Topic(topic)
		}
		for _, s := range v.Sessions() {
			into.Saved.Sessions[s.Producer] = append(into.Saved.Sessions[s.Producer], s.SessionState)
		}
		return nil
	})
}

// restoreDamaged tries to restore a backup with one place damaged. It must be
// refused before anything is asked of the cluster but its present state.
func restoreDamaged(ctx context.Context, t *Target) (string, error) {
	peers := everyPeer(t, nil, nil)
	b, err := t.save(ctx, peers[0])
	if err != nil {
		return "", err
	}
	path := b.path + ".damaged"
	what, err := t.damage(b.path, path)
	if err != nil {
		return "", err
	}
	g, err := newGateway(t, peers[1])
	if err != nil {
		return "", err
	}
	defer g.close()
	evidence := fmt.Sprintf("%s, %s", b, what)
	for _, verb := range []string{"inspect", "restore"} {
		_, err := t.lookupctl(ctx, g.address(), "snapshot", verb, path)
		switch {
		case err == nil:
			return evidence, fmt.Errorf("%w: %s of a damaged backup (%s) is not refused", ErrViolation, verb, what)
		case !strings.Contains(err.Error(), fsm.ErrBadSnapshot.Error()):
			return evidence, fmt.Errorf("%w: %s of a damaged backup (%s) fails for another reason: %w", ErrNoEvidence, verb, what, err)
		}
		evidence += "; " + verb + " refused"
	}
	if n := g.imports(); n > 0 {
		return evidence, fmt.Errorf("%w: a damaged backup (%s) led to %d changes", ErrViolation, what, n)
	}
	return evidence + " before any change", nil
}

// damage writes a copy of a file with a bit changed, a part missing, or more
// than belongs to it, and says which.
func (t *Target) damage(from, to string) (string, error) {
	content, err := os.ReadFile(from)
	if err != nil {
		return "", err
	}
	at := t.Rand.IntN(len(content))
	what := fmt.Sprintf("bit changed in byte %d of %d", at, len(content))
	switch t.Rand.IntN(4) {
	case 0:
		what = fmt.Sprintf("cut from %d to %d bytes", len(content), at)
		content = content[:at]
	case 1:
		what = "a byte too long"
		content = append(content, 0)
	default:
		content[at] ^= 1 << t.Rand.IntN(8)
	}
	return what, os.WriteFile(to, content, 0o600)
}

// restoreBackup saves a backup, lets the load delete some of what it holds, and
// restores it through another peer; again, if nothing was gone by then. All
// changes are recorded.
func restoreBackup(ctx context.Context, t *Target) (string, error) {
	peers := everyPeer(t, nil, nil)
	g, err := newGateway(t, peers[1])
	if err != nil {
		return "", err
	}
	defer g.close()
	waiting, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	var b backup
	for g.imports() == 0 {
		if b, err = t.save(waiting, peers[0]); err != nil {
			return "", err
		}
		if err := hold(waiting, t.between(time.Second, 4*time.Second)); err != nil {
			return "", fmt.Errorf("nothing was to be restored: %w", err)
		}
		// A restore that failed is made once more, which makes the rest.
		err := supervisor.Poll(waiting, func(ctx context.Context) error {
			_, err := t.lookupctl(ctx, g.address(), "snapshot", "restore", b.path)
			return err
		})
		if err != nil {
			return b.String(), err
		}
	}
	return fmt.Sprintf("%s, restored through %s: %d changes", b, peers[1].Name(), g.imports()), nil
}
