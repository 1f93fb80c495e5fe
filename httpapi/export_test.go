package httpapi

import "net/http"

// Handler is what Open serves, for tests that need no socket.
func (s *Server) Handler() http.Handler { return s.handler() }
