package main

import (
	"context"
	"log/slog"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	measureMemoryEvery = 100 * time.Millisecond
	measureDiskEvery   = time.Second

	// garbageAtLeast is how much garbage may gather before it is collected. Go's
	// default is as much as is in use, which for most registries is so little that
	// a busy peer would spend a quarter of its time on collecting.
	garbageAtLeast = 32 << 20
	defaultGOGC    = 100 // Go's
	// leastGOGC is for a large registry, where as much garbage as is in use is
	// much memory, and there is enough of it to be seldom collected with half.
	leastGOGC = 50
)

// pressure measures what this peer shares with others, memory and disk, so that
// it can refuse work before the operating system refuses it. Its first
// measurement is made by newPressure; run goes on with it.
type pressure struct {
	log         *slog.Logger
	dataPath    string
	mostMemory  uint64 // in live use; 0 means no limit
	minFreeDisk uint64
	gogc        int // what the collector was told; 0: the operator has told it

	disk                atomic.Uint64 // bytes free
	memoryHigh, diskLow atomic.Bool

	stop context.CancelFunc
	done sync.WaitGroup
}

func newPressure(o *options, log *slog.Logger) *pressure {
	p := &pressure{log: log, dataPath: o.dataPath, minFreeDisk: uint64(o.limits.freeDisk)}
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		p.mostMemory = uint64(limit) / 100 * uint64(o.limits.memory)
	}
	if os.Getenv("GOGC") == "" {
		p.gogc = defaultGOGC
	}
	return p
}

// start measures once and then goes on until close. A disk that hangs stops the
// measuring of it alone.
func (p *pressure) start() {
	p.measureMemory()
	p.measureDisk()
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	tune := func() { p.tuneCollector(memoryUse().live) }
	tune()
	afterCollections(ctx, tune)
	if p.mostMemory > 0 {
		p.done.Go(func() { every(ctx, measureMemoryEvery, p.measureMemory) })
	}
	p.done.Go(func() { every(ctx, measureDiskEvery, p.measureDisk) })
}

// afterCollections calls do after each garbage collection until ctx ends, in a
// goroutine of the runtime. An idle process seldom collects, and is not woken.
func afterCollections(ctx context.Context, do func()) {
	garbage := new(struct{ pointer *int }) // Go keeps small objects without pointers together
	runtime.AddCleanup(garbage, func(ctx context.Context) {
		if ctx.Err() == nil {
			do()
			afterCollections(ctx, do)
		}
	}, ctx)
}

// close ends the measuring. It may be called without start.
func (p *pressure) close() {
	if p.stop != nil {
		p.stop()
		p.done.Wait()
	}
}

func every(ctx context.Context, interval time.Duration, do func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}

// MemoryHigh reports whether new connections must be refused.
func (p *pressure) MemoryHigh() bool { return p.memoryHigh.Load() }

// DiskLow reports whether nothing may be added to the state.
func (p *pressure) DiskLow() bool { return p.diskLow.Load() }

// use is what memory is used for, in bytes.
type use struct {
	live  uint64 // kept by the last garbage collection
	inUse uint64 // that, and all that is not collected
}

// memoryUse does not count garbage: near GOMEMLIMIT the collector lets it grow to
// the limit and no further.
func memoryUse() use {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples)
	u := use{live: samples[0].Value.Uint64()}
	u.inUse = u.live + samples[1].Value.Uint64()
	for _, s := range samples[2:] {
		u.inUse -= min(u.inUse, s.Value.Uint64())
	}
	return u
}

func (p *pressure) measureMemory() {
	used := memoryUse().inUse
	high := p.mostMemory > 0 && used > p.mostMemory
	if p.memoryHigh.Swap(high) == high {
		return
	}
	if high {
		p.log.Warn("memory is nearly used up: no new connections until it is not", "in_use", used, "most", p.mostMemory)
	} else {
		p.log.Info("memory is free again: new connections are taken", "in_use", used)
	}
}

// tuneCollector lets garbageAtLeast gather. GOMEMLIMIT goes before it.
func (p *pressure) tuneCollector(live uint64) {
	gogc := gogcFor(live)
	const step = 5 // of what it is: each change stops the process for a moment
	if p.gogc == 0 || gogc >= p.gogc-p.gogc/step && gogc <= p.gogc+p.gogc/step {
		return
	}
	debug.SetGCPercent(gogc)
	p.gogc = gogc
}

// gogcFor returns how much garbage may gather, in percent of what is in use.
func gogcFor(live uint64) int {
	const least = 4 << 20 // before the first collection nothing is known
	return max(leastGOGC, int(garbageAtLeast*100/max(live, least)))
}

func (p *pressure) measureDisk() {
	free, err := freeDisk(p.dataPath)
	if err != nil {
		p.log.Debug("free disk space is not known", "path", p.dataPath, "err", err)
		return
	}
	p.disk.Store(free)
	low := free < p.minFreeDisk
	if p.diskLow.Swap(low) == low {
		return
	}
	if low {
		p.log.Warn("too little free disk space: this peer refuses registrations and HTTP changes until there is more; free some, or lower -min-free-disk",
			"path", p.dataPath, "free", sizeText(int64(free)), "min-free-disk", sizeText(int64(p.minFreeDisk)))
	} else {
		p.log.Info("enough free disk space again: registrations and HTTP changes are taken", "free", sizeText(int64(free)))
	}
}

func (p *pressure) register(reg prometheus.Registerer) {
	reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lookupd_memory_live_bytes", Help: "Memory in use but for garbage."}, func() float64 { return float64(memoryUse().inUse) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lookupd_disk_free_bytes", Help: "Free space at -data-path."}, func() float64 { return float64(p.disk.Load()) }),
	)
}
