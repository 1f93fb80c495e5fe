package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
)

// apiError is an answer that is not 200: its status and nsqlookupd's message,
// or one of ours in the same form.
type apiError struct {
	status  int
	message string
}

func (e apiError) Error() string { return e.message }

// Answers that clients can get.
var (
	errInvalidRequest     = apiError{http.StatusBadRequest, "INVALID_REQUEST"}
	errInvalidLevel       = apiError{http.StatusBadRequest, "INVALID_ARG_LEVEL"}
	errInvalidLines       = apiError{http.StatusBadRequest, "INVALID_ARG_LINES"}
	errMissingTopic       = apiError{http.StatusBadRequest, "MISSING_ARG_TOPIC"}
	errMissingChannel     = apiError{http.StatusBadRequest, "MISSING_ARG_CHANNEL"}
	errMissingNode        = apiError{http.StatusBadRequest, "MISSING_ARG_NODE"}
	errInvalidTopic       = apiError{http.StatusBadRequest, "INVALID_ARG_TOPIC"}
	errInvalidChannel     = apiError{http.StatusBadRequest, "INVALID_ARG_CHANNEL"}
	errInvalidConsistency = apiError{http.StatusBadRequest, "INVALID_ARG_CONSISTENCY"}
	errInvalidState       = apiError{http.StatusBadRequest, "INVALID_ARG_STATE"}
	errInvalidLimit       = apiError{http.StatusBadRequest, "INVALID_ARG_LIMIT"}
	errInvalidBody        = apiError{http.StatusBadRequest, "INVALID_BODY"}
	errTopicNotFound      = apiError{http.StatusNotFound, "TOPIC_NOT_FOUND"}
	errChannelNotFound    = apiError{http.StatusNotFound, "CHANNEL_NOT_FOUND"}
	errNotFound           = apiError{http.StatusNotFound, "NOT_FOUND"}
	errMethodNotAllowed   = apiError{http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED"}
	errForbidden          = apiError{http.StatusForbidden, "FORBIDDEN"}
	errTLSRequired        = apiError{http.StatusForbidden, "TLS_REQUIRED"}
	errUnauthorized       = apiError{http.StatusUnauthorized, "UNAUTHORIZED"}
	errCrossSite          = apiError{http.StatusForbidden, "CROSS_SITE_REQUEST"}
	errBodyTooBig         = apiError{http.StatusRequestEntityTooLarge, "BODY_TOO_BIG"}
	errTooManyChanges     = apiError{http.StatusRequestEntityTooLarge, "TOO_MANY_CHANGES"}
	errURLTooLong         = apiError{http.StatusRequestURITooLong, "URL_TOO_LONG"}
	errPeerNotFound       = apiError{http.StatusNotFound, "PEER_NOT_FOUND"}
	errAmbiguousName      = apiError{http.StatusConflict, "AMBIGUOUS_NAME"}
	errWouldLoseQuorum    = apiError{http.StatusConflict, "WOULD_LOSE_QUORUM"}
	errLastVoter          = apiError{http.StatusConflict, "LAST_VOTER"}
	errNotVoter           = apiError{http.StatusConflict, "NOT_A_VOTER"}
	errPeerDown           = apiError{http.StatusConflict, "PEER_DOWN"}
	errNoSuccessor        = apiError{http.StatusConflict, "NO_SUCCESSOR"}
	errOldLeader          = apiError{http.StatusNotImplemented, "OLD_LEADER"}
	errLimit              = apiError{http.StatusInsufficientStorage, "LIMIT_REACHED"}
	errInternal           = apiError{http.StatusInternalServerError, "INTERNAL_ERROR"}
	errNoQuorum           = apiError{http.StatusServiceUnavailable, "NO_QUORUM"}
	errNotReady           = apiError{http.StatusServiceUnavailable, "NOT_READY"}
	errOverloaded         = apiError{http.StatusServiceUnavailable, "OVERLOADED"}
	errDiskLow            = apiError{http.StatusServiceUnavailable, "DISK_LOW"}
	errStopping           = apiError{http.StatusServiceUnavailable, "STOPPING"}
)

// answerTo is the table from errors to answers. A timeout counts as a lost
// quorum: nothing else may take that long.
func answerTo(err error) (answer apiError, known bool) {
	if errors.As(err, &answer) {
		return answer, true
	}
	for _, row := range []struct {
		is     error
		answer apiError
	}{
		{registry.ErrChannelNotFound, errChannelNotFound},
		{ErrUnknownLevel, errInvalidLevel},
		{cluster.ErrUnknownPeer, errPeerNotFound},
		{cluster.ErrAmbiguousName, errAmbiguousName},
		{cluster.ErrWouldLoseQuorum, errWouldLoseQuorum},
		{cluster.ErrLastVoter, errLastVoter},
		{cluster.ErrNotVoter, errNotVoter},
		{cluster.ErrPeerDown, errPeerDown},
		{cluster.ErrNoSuccessor, errNoSuccessor},
		{cluster.ErrOldLeader, errOldLeader},
		{cluster.ErrNotReady, errNotReady},
		{cluster.ErrStopped, errStopping},
		{cluster.ErrOverloaded, errOverloaded},
		{cluster.ErrDiskLow, errDiskLow},
		{cluster.ErrNoQuorum, errNoQuorum},
		{context.DeadlineExceeded, errNoQuorum},
		{context.Canceled, errNoQuorum}, // the client is gone, nobody reads it
	} {
		if errors.Is(err, row.is) {
			return row.answer, true
		}
	}
	return errInternal, false
}

// hintTo says what to do about an answer under /v1/.
func hintTo(e apiError) string {
	for _, row := range []struct {
		answer apiError
		hint   string
	}{
		{errForbidden, "call from -admin-cidr (default: the peer's own host) by an address or the peer's own name, and through no proxy, or send the token of -admin-token-file as Authorization: Bearer ..."},
		{errInvalidLevel, "give ?level=debug, info, warn, error or fatal"},
		{errInvalidLines, "give fewer: the log itself has all"},
		{errTLSRequired, "use https://"},
		{errUnauthorized, "send a token of -lookup-token-file as Authorization: Bearer ..., or call as an admin"},
		{errCrossSite, "browsers may not send changes from other sites"},
		{errInvalidBody, "send {\"create\":[{\"topic\":\"t\",\"channels\":[\"c\"]}],\"delete\":[]}; docs/http.md has the rules"},
		{errLimit, "raise the limit (docs/operations.md, Limits), or import less"},
		{errBodyTooBig, "send less at once"},
		{errTooManyChanges, "send less at once; docs/http.md says how they are counted"},
		{errPeerNotFound, "GET /v1/status lists the peers"},
		{errAmbiguousName, "give the id in place of the name; GET /v1/status lists both"},
		{errWouldLoseQuorum, "start the peers that are down, or remove one of them first; ?force does it all the same, and the cluster then stands still until they are back"},
		{errLastVoter, "add another voter first, or stop the peer and delete its data"},
		{errNotVoter, "a joining peer becomes a voter by itself; one with -non-voter never does"},
		{errPeerDown, "start it, or name another voter"},
		{errNoSuccessor, "start another voter first"},
		{errOldLeader, "upgrade the leader, or hand over to a newer peer by restarting it"},
		{errNoQuorum, "GET /v1/status says which peers are missing; ask again when a majority of the voters is back"},
		{errNotReady, "this peer is starting: ask another one, or again"},
		{errOverloaded, "ask again"},
		{errStopping, "ask another peer"},
		{errDiskLow, "free disk space on this peer, or ask another one"},
	} {
		if e == row.answer {
			return row.hint
		}
	}
	return "ask another peer, or try again"
}

// fail answers with err.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	answer, known := answerTo(err)
	if !known {
		s.cfg.Logger.Error("HTTP request failed", "uri", clip(r.RequestURI), "err", err)
	}
	if answer == errDiskLow {
		s.cfg.Counters.refusedOne("disk")
		s.bad.warn(s.cfg.Logger, s.cfg.Now(), "HTTP change refused: too little free disk space", "uri", clip(r.RequestURI), "remote", r.RemoteAddr)
	}
	if answer.status == http.StatusServiceUnavailable {
		s.unavailable(w)
	}
	writeJSON(w, answer.status, messageJSON{Message: answer.message})
}

// unavailable makes the client dial anew, so that behind one name for all peers
// it meets another.
func (s *Server) unavailable(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	w.Header().Set("Connection", "close")
	s.nameLeader(w, "")
}

const (
	headerType   = "Content-Type"
	headerNSQ    = "X-NSQ-Content-Type"
	headerIndex  = "X-Lookupd-Index"
	headerLeader = "X-Lookupd-Leader"
	headerStale  = "X-Lookupd-Stale-Ms"
)

// Values of headers, shared by all answers: net/http does not change them.
var (
	typeJSON = []string{"application/json; charset=utf-8"}
	nsqOne   = []string{"nsq; version=1.0"}
)

// Header maps are set by key: these are not in the canonical form that
// http.Header.Set would give them, and are sent as they stand.
func (s *Server) nameLeader(w http.ResponseWriter, name string) {
	if name == "" {
		name = s.cfg.Cluster.Leader()
	}
	if name == "" {
		name = "none"
	}
	w.Header()[headerLeader] = []string{name}
}

// mark says which state an answer shows, and how old it may be if it is stale.
func (s *Server) mark(w http.ResponseWriter, info cluster.ReadInfo) {
	w.Header()[headerIndex] = []string{strconv.FormatUint(info.Index, 10)}
	s.nameLeader(w, info.Leader)
	if info.Stale {
		const least = 1 // ms; rounded up, for the header is an upper bound
		ms := max(least, (info.StaleFor+time.Millisecond-1)/time.Millisecond)
		w.Header()[headerStale] = []string{strconv.FormatInt(int64(ms), 10)}
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	b, err := json.Marshal(body)
	if err != nil { // only a type that cannot be encoded: a bug
		panic(err)
	}
	writeBytes(w, status, b)
}

// writeDocument is writeJSON for a 200 under /v1/: people read these, so < and >
// stay as they are.
func writeDocument(w http.ResponseWriter, body any) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil { // as in writeJSON
		panic(err)
	}
	writeBytes(w, http.StatusOK, b.Bytes())
}

func writeBytes(w http.ResponseWriter, status int, body []byte) {
	w.Header()[headerType] = typeJSON
	w.Header()[headerNSQ] = nsqOne
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone
}

// writeDone is the answer to a write.
func writeDone(w http.ResponseWriter) {
	w.Header()[headerNSQ] = nsqOne
	w.WriteHeader(http.StatusOK)
}
