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
