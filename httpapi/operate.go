package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/lookupd/lookupd/cluster"
)

// operateWithin bounds a change of the cluster: a hand-over and a commit, each
// asked again of a new leader if need be.
const operateWithin = 20 * time.Second

// longer lets a request take longer than Limits.ReadTimeout: net/http reads on
// for the client's hang-up, and would take that time-out for it.
func (s *Server) longer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // fails for tests' recorders only
		next.ServeHTTP(w, r)
	})
}

func (s *Server) removePeer(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), operateWithin)
	defer cancel()
	var how cluster.RemoveHow
	if how.DryRun, err = asked(values, "dry_run"); err != nil {
		return err
	}
	if how.Force, err = asked(values, "force"); err != nil {
		return err
	}
	removal, err := s.cfg.Cluster.RemovePeer(ctx, r.PathValue("name"), how)
	if err != nil && removal.Sentence != "" {
		return fmt.Errorf("%w (%s)", err, removal.Sentence)
	}
	if err != nil {
		return err
	}
	if removal.Index > 0 {
		s.mark(w, cluster.ReadInfo{Index: removal.Index})
	}
	writeDocument(w, removal)
	return nil
}

func (s *Server) transferLeader(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r)
	if err != nil {
		return err
	}
	var how cluster.TransferHow
	how.To, _ = first(values, "to")
	if how.DryRun, err = asked(values, "dry_run"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), operateWithin)
	defer cancel()
	transfer, err := s.cfg.Cluster.TransferLeadership(ctx, how)
	if err != nil {
		return err
	}
	leader := transfer.New
	if transfer.DryRun {
		leader = transfer.Old
	}
	s.nameLeader(w, leader)
	writeDocument(w, transfer)
	return nil
}

func (s *Server) autopilot(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), statusWithin)
	defer cancel()
	state, err := s.cfg.Cluster.AutopilotState(ctx)
	if err != nil {
		return err
	}
	s.nameLeader(w, state.Leader)
	writeDocument(w, state)
	return nil
}
