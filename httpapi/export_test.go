package httpapi

import (
	"net/http"

	"github.com/lookupd/lookupd/cluster"
)

// Handler is what Open serves, for tests that need no socket.
func (s *Server) Handler() http.Handler { return s.handler() }

// Documents are all under /v1/, by the name of their schema.
func Documents() map[string]any {
	return map[string]any{
		"status": cluster.Status{}, "check": Check{}, "producers": producersPageJSON{}, "autopilot": cluster.AutopilotState{},
		"removal": cluster.Removal{}, "transfer": cluster.Transfer{}, "import": importJSON{}, "imported": importedJSON{},
		"config": Settings{}, "log-level": LogLevel{}, "error": errorJSON{},
	}
}

// QuickConns is how many connections net/http does not have.
func (s *Server) QuickConns() int {
	s.listener.mu.Lock()
	defer s.listener.mu.Unlock()
	return len(s.listener.conns)
}

// QuickHead is where a plain request at the beginning of b points to, and its
// length.
func QuickHead(b []byte) (target, host string, length int, ok bool) {
	head, ok := quickHead(b)
	return string(head.target), string(head.host), head.length, ok
}
