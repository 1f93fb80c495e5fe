package store_test

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lookupd/lookupd/store"
)

// fatals records what a log reported as fatal.
type fatals struct {
	mu   sync.Mutex
	errs []error
	ch   chan error
}

func newFatals() *fatals { return &fatals{ch: make(chan error, 16)} }

func (f *fatals) report(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
	f.ch <- err
}

func (f *fatals) all() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.errs
}

// wait returns the first report.
func (f *fatals) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-f.ch:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was reported as fatal")
		return nil
	}
}

// sickDisk fails writes once broken, or blocks them.
type sickDisk struct {
	store.Backend
	broken error
	hang   chan struct{}
	writes int
}

func (s *sickDisk) write() error {
	s.writes++
	if s.hang != nil {
		<-s.hang
	}
	return s.broken
}

func (s *sickDisk) StoreLogs(entries []*raft.Log) error {
	return errors.Join(s.write(), s.Backend.StoreLogs(entries))
}

func (s *sickDisk) DeleteRange(first, last uint64) error {
	return errors.Join(s.write(), s.Backend.DeleteRange(first, last))
}

func (s *sickDisk) Set(key, value []byte) error {
	if err := s.write(); err != nil {
		return err // unchanged
	}
	return s.Backend.Set(key, value)
}

func sickLog(t *testing.T, hungAfter time.Duration) (*store.Log, *sickDisk, *fatals) {
	t.Helper()
	f, disk := newFatals(), &sickDisk{}
	l, err := openDir(t, t.TempDir()).OpenLog(store.LogConfig{OnFatal: f.report, HungAfter: hungAfter})
	must(t, err)
	t.Cleanup(func() { disk.Backend.Close() })
	l.WrapBackend(func(b store.Backend) store.Backend { disk.Backend = b; return disk })
	return l, disk, f
}

func TestFailedWriteIsTheLast(t *testing.T) {
	errIO := errors.New("input/output error")
	writes := map[string]func(*store.Log) error{
		"StoreLog":    func(l *store.Log) error { return l.StoreLog(command(2, 1, "x")) },
		"DeleteRange": func(l *store.Log) error { return l.DeleteRange(1, 1) },
		"Set":         func(l *store.Log) error { return l.Set([]byte("k"), nil) },
		"SetUint64":   func(l *store.Log) error { return l.SetUint64([]byte("CurrentTerm"), 2) },
	}
	for name, write := range writes {
		t.Run(name, func(t *testing.T) {
			l, disk, f := sickLog(t, 0)
			must(t, l.StoreLog(command(1, 1, "x")))
			disk.broken = errIO
			if err := write(l); !errors.Is(err, errIO) {
				t.Fatalf("failed write returned %v", err)
			}
			if err := f.wait(t); !errors.Is(err, errIO) {
				t.Errorf("reported %v", err)
			}
			// The disk recovers, but what it holds now nobody knows.
			disk.broken = nil
			before := disk.writes
			for name, again := range writes {
				if err := again(l); !errors.Is(err, errIO) {
					t.Errorf("%s after the failure: %v", name, err)
				}
			}
			if err := l.GetLog(1, &raft.Log{}); !errors.Is(err, errIO) {
				t.Errorf("read after the failure: %v", err)
			}
			must(t, l.Close())
			if disk.writes != before {
				t.Error("the disk was written to after the failure")
			}
			if n := len(f.all()); n != 1 {
				t.Errorf("%d reports", n)
			}
		})
	}
}

func TestHungWriteIsReported(t *testing.T) {
	l, disk, f := sickLog(t, 50*time.Millisecond)
	disk.hang = make(chan struct{})
	result := make(chan error, 1)
	go func() { result <- l.StoreLog(command(1, 1, "x")) }()
	if err := f.wait(t); !errors.Is(err, store.ErrDiskHung) {
		t.Errorf("reported %v", err)
	}
	close(disk.hang)
	if err := <-result; !errors.Is(err, store.ErrDiskHung) {
		t.Errorf("a write that came back too late returned %v", err)
	}
}

func TestStopwatchStopped(t *testing.T) {
	late := make(chan struct{}, 1)
	for range 200 {
		store.StartStopwatch(time.Minute, func() { late <- struct{}{} })()
	}
	done := make(chan struct{})
	store.StartStopwatch(10*time.Millisecond, func() { close(done) })
	<-done
	select {
	case <-late:
		t.Error("a stopped stopwatch called")
	default:
	}
}

// A file that shrinks under its mapping faults where it is read, as it does
// where the disk cannot read a page.
func TestFaultWhileRunningIsReported(t *testing.T) {
	d := openDir(t, t.TempDir())
	f := newFatals()
	l := openLog(t, d)
	fill(t, l, 1, 1, 2000)
	l = emptyJournal(t, d, l, f)
	must(t, os.Truncate(d.Path("raft", "raft.db"), 8192))
	if err := l.GetLog(1000, &raft.Log{}); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("read: %v", err)
	}
	if err := f.wait(t); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("reported %v", err)
	}
	must(t, l.Close())
}

func TestDamageWhileRunningIsReported(t *testing.T) {
	d := openDir(t, t.TempDir())
	f := newFatals()
	l := openLog(t, d)
	must(t, l.StoreLog(command(1, 1, "something to be found")))
	l = emptyJournal(t, d, l, f)
	flip(t, d.Path("raft", "raft.db"), "something to be found")
	if err := l.GetLog(1, &raft.Log{}); !errors.Is(err, store.ErrDamaged) || !errors.Is(err, store.ErrChecksum) {
		t.Errorf("read: %v", err)
	}
	if err := f.wait(t); !errors.Is(err, store.ErrChecksum) {
		t.Errorf("reported %v", err)
	}
}

// emptyJournal opens l once more, so that it reads from raft.db.
func emptyJournal(t *testing.T, d *store.Dir, l *store.Log, f *fatals) *store.Log {
	t.Helper()
	must(t, l.Close())
	l, err := d.OpenLog(store.LogConfig{OnFatal: f.report})
	must(t, err)
	return l
}

// flip flips a bit in every place of the file where text is.
func flip(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	content, err := os.ReadFile(path)
	must(t, err)
	found := false
	for from := 0; ; {
		i := bytes.Index(content[from:], []byte(text))
		if i < 0 {
			break
		}
		found = true
		from += i + len(text)
		_, err := file.WriteAt([]byte{content[from-1] ^ 1}, int64(from-1))
		must(t, err)
	}
	if !found {
		t.Fatalf("%s does not hold %q", path, text)
	}
}
