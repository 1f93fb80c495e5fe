package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lookupd/lookupd/proof/fault"
	"github.com/lookupd/lookupd/proof/load"
	"github.com/lookupd/lookupd/proof/round"
)

func main() {
	binary := flag.String("binary", "", "")
	length := flag.Duration("length", 20*time.Second, "")
	seed := flag.Uint64("seed", 1, "")
	peers := flag.Int("peers", 3, "")
	faults := flag.Bool("faults", false, "")
	flag.Parse()
	dir, _ := os.MkdirTemp("", "proof-")
	cfg := round.Config{Binary: *binary, Dir: filepath.Join(dir, "round"), Peers: *peers, Length: *length, Seed: *seed, Load: load.DefaultConfig(), Log: func(f string, a ...any) { fmt.Printf(f+"\n", a...) }}
	if *faults {
		cfg.Kinds = fault.All()
	}
	res, err := round.Run(context.Background(), cfg)
	fmt.Println(res, err, dir)
	for _, v := range append(res.Violations(), res.Problems...) {
		fmt.Println("  ", v)
	}
	fmt.Println(res.Ops, res.NotRun)
}
