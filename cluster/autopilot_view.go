package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/lookupd/lookupd/peer/peerpb"
	"github.com/lookupd/lookupd/registry"
)

// AutopilotState is what autopilot, on the leader, thinks of the cluster.
type AutopilotState struct {
	Sentence         string            `json:"sentence"`
	Healthy          bool              `json:"healthy"`
	FailureTolerance int               `json:"failure_tolerance"`
	Leader           string            `json:"leader"`
	Servers          []AutopilotServer `json:"servers"` // by name, then id
	Settings         AutopilotSettings `json:"settings"`
}

// AutopilotServer is one peer in AutopilotState.
type AutopilotServer struct {
	Name          string          `json:"name"`
	ID            registry.NodeID `json:"id"`
	Status        string          `json:"status"` // alive or failed, as gossip sees it
	Role          Role            `json:"role"`
	NeverVotes    bool            `json:"never_votes"` // -non-voter
	Healthy       bool            `json:"healthy"`
	StableMS      int64           `json:"stable_ms"`       // since healthy has been what it is
	LastContactMS int64           `json:"last_contact_ms"` // with the leader, -1 if never
	LastTerm      uint64          `json:"last_term"`
	LastIndex     uint64          `json:"last_index"`
}

// AutopilotSettings are fixed but for CleanupDeadServers and MinQuorum, the
// leader's -cleanup-dead-peers and -bootstrap-expect.
type AutopilotSettings struct {
	CleanupDeadServers     bool   `json:"cleanup_dead_servers"`
	LastContactThresholdMS int64  `json:"last_contact_threshold_ms"`
	MaxTrailingLogs        uint64 `json:"max_trailing_logs"`
	MinQuorum              int    `json:"min_quorum"`
	ServerStabilizationMS  int64  `json:"server_stabilization_ms"`
}

// AutopilotState asks the leader. Errors: ErrNoQuorum when ctx ends,
// ErrOldLeader.
func (n *Node) AutopilotState(ctx context.Context) (AutopilotState, error) {
	answer, err := askLeader(ctx, n, &peerpb.AutopilotRequest{}, n.net.Autopilot, handler{n}.Autopilot)
	if err == nil {
		err = refusal(answer.Code)
	}
	if err != nil {
		return AutopilotState{}, err
	}
	leader := registry.NodeID(answer.LeaderId)
	s := AutopilotState{
		Healthy: answer.Healthy, FailureTolerance: int(answer.FailureTolerance), Leader: leader.Name(),
		Servers: []AutopilotServer{},
		Settings: AutopilotSettings{
			CleanupDeadServers:     answer.CleanupDead,
			LastContactThresholdMS: lastContactThreshold.Milliseconds(), MaxTrailingLogs: maxTrailingLogs,
			MinQuorum: int(answer.MinQuorum), ServerStabilizationMS: stabilization.Milliseconds(),
		},
	}
	var unhealthy, joining int
	for _, a := range answer.Servers {
		server := AutopilotServer{
			Name: registry.NodeID(a.NodeId).Name(), ID: registry.NodeID(a.NodeId), Status: "failed", Role: RoleNonVoter,
			NeverVotes: a.NonVoter, Healthy: a.Healthy, StableMS: int64(a.StableMs), LastContactMS: a.LastContactMs,
			LastTerm: a.LastLogTerm, LastIndex: a.LastLogIndex,
		}
		switch {
		case server.ID == leader:
			server.Role = RoleLeader
		case a.Voter:
			server.Role = RoleVoter
		case !a.NonVoter:
			joining++
		}
		if a.Alive {
			server.Status = "alive"
		}
		if !a.Healthy {
			unhealthy++
		}
		s.Servers = append(s.Servers, server)
	}
	slices.SortFunc(s.Servers, func(a, b AutopilotServer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	s.Sentence = fmt.Sprintf("All healthy; %s.", canLose(s.FailureTolerance))
	if unhealthy > 0 {
		s.Sentence = fmt.Sprintf("%d of %d peers unhealthy; %s.", unhealthy, len(s.Servers), canLose(s.FailureTolerance))
	}
	if joining > 0 {
		s.Sentence += fmt.Sprintf(" %d to become a voter once stable for %s.", joining, stabilization)
	}
	return s, nil
}

// Autopilot answers with autopilot's latest state, on the leader.
func (h handler) Autopilot(context.Context, *peerpb.AutopilotRequest) *peerpb.AutopilotResponse {
	n := h.node
	answer := &peerpb.AutopilotResponse{Code: peerpb.Code_CODE_NOT_LEADER, LeaderId: string(n.id)}
	pilot := n.pilot.Load()
	if pilot == nil {
		return answer
	}
	state := pilot.GetState()
	if state == nil || len(state.Servers) == 0 { // it has not looked yet
		answer.Code = peerpb.Code_CODE_NOT_READY
		return answer
	}
	answer.Code, answer.Healthy = peerpb.Code_CODE_OK, state.Healthy
	answer.CleanupDead = n.cfg.CleanupDeadPeers
	answer.FailureTolerance, answer.MinQuorum = uint32(max(state.FailureTolerance, 0)), uint32(max(n.cfg.BootstrapExpect, 0))
	for id, s := range state.Servers {
		answer.Servers = append(answer.Servers, &peerpb.AutopilotServer{
			NodeId: string(id), Alive: s.Server.NodeStatus == autopilot.NodeAlive, Voter: s.HasVotingRights(),
			NonVoter: s.Server.Meta[neverPromote] != "", Healthy: s.Health.Healthy,
			StableMs: uint64(max(time.Since(s.Health.StableSince), 0).Milliseconds()), LastContactMs: max(s.Stats.LastContact.Milliseconds(), -1),
			LastLogTerm: s.Stats.LastTerm, LastLogIndex: s.Stats.LastIndex,
		})
	}
	slices.SortFunc(answer.Servers, func(a, b *peerpb.AutopilotServer) int { return cmp.Compare(a.NodeId, b.NodeId) })
	return answer
}
