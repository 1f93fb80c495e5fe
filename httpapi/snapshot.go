package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
)

const (
	importPath = "/v1/import"
	mostSaves  = 2 // under way at once
)

// saveSnapshot streams the state as package fsm writes it.
func (s *Server) saveSnapshot(w http.ResponseWriter, r *http.Request) error {
	how, err := s.howToRead(r.URL.Query())
	if err != nil {
		return err
	}
	select {
	case s.saves <- struct{}{}:
		defer func() { <-s.saves }()
	default:
		return errOverloaded
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Limits.AnswerWithin)
	defer cancel()
	saved, info, err := s.cfg.Cluster.Save(ctx, how.consistency)
	if err != nil {
		return err
	}
	defer saved.Release()
	info.Index = saved.Info().Index
	s.mark(w, info)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(saved.Length(), 10))
	if r.Method == http.MethodHead {
		return nil
	}
	if _, err := saved.WriteTo(w); err != nil {
		s.cfg.Logger.Warn("snapshot not sent to its end", "err", err, "remote", r.RemoteAddr)
		panic(http.ErrAbortHandler) // a part must not look like the whole
	}
	return nil
}

type (
	// importJSON is the body of POST /v1/import.
	importJSON struct {
		Create []importTopic `json:"create"` // topics, and channels of them
		Delete []importTopic `json:"delete"` // these channels, or the topic if it names none
	}
	importTopic struct {
		Topic    string   `json:"topic"`
		Channels []string `json:"channels"`
	}
	importedJSON struct {
		Changed   int    `json:"changed"`
		Unchanged int    `json:"unchanged"` // was so already
		Index     uint64 `json:"index"`
	}
)

// importNames creates and deletes topics and channels in one entry of the log:
// all of it is done, or nothing.
func (s *Server) importNames(w http.ResponseWriter, r *http.Request) error {
	commands, err := s.importCommands(r.Body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Limits.AnswerWithin)
	defer cancel()
	results, index, err := s.cfg.Cluster.Propose(ctx, commands...)
	if err != nil {
		return err
	}
	done := importedJSON{Index: index}
	for _, result := range results {
		if result == registry.ResultChanged {
			done.Changed++
		} else {
			done.Unchanged++
		}
	}
	s.mark(w, cluster.ReadInfo{Index: index})
	writeDocument(w, done)
	return nil
}

// importCommands checks the body; nothing is proposed unless all of it is good.
func (s *Server) importCommands(body io.Reader) (commands []registry.Command, err error) {
	var names importJSON
	decoder := json.NewDecoder(body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&names); err != nil {
		var tooBig *http.MaxBytesError
		if errors.As(err, &tooBig) {
			return nil, errBodyTooBig
		}
		return nil, fmt.Errorf("%w: %w", errInvalidBody, err)
	}
	if decoder.More() {
		return nil, fmt.Errorf("%w: more than one document", errInvalidBody)
	}
	for _, t := range append(names.Create, names.Delete...) {
		if !registry.ValidName(t.Topic) {
			return nil, fmt.Errorf("%w: topic %.80q", errInvalidTopic, t.Topic)
		}
		for _, channel := range t.Channels {
			if !registry.ValidName(channel) {
				return nil, fmt.Errorf("%w: channel %.80q of %s", errInvalidChannel, channel, t.Topic)
			}
		}
	}
	for _, t := range names.Create {
		if err := s.room(t.Topic, ""); err != nil {
			return nil, err
		}
		commands = append(commands, registry.CreateTopic{Topic: t.Topic})
		for _, channel := range t.Channels {
			if err := s.room(t.Topic, channel); err != nil {
				return nil, err
			}
			commands = append(commands, registry.CreateChannel{Topic: t.Topic, Channel: channel})
		}
	}
	for _, t := range names.Delete {
		if len(t.Channels) == 0 {
			commands = append(commands, registry.DeleteTopic{Topic: t.Topic})
		}
		for _, channel := range t.Channels {
			commands = append(commands, registry.DeleteChannel{Topic: t.Topic, Channel: channel})
		}
	}
	if len(commands) == 0 {
		return nil, fmt.Errorf("%w: it names nothing", errInvalidBody)
	}
	if len(commands) > cluster.MaxProposalCommands {
		return nil, fmt.Errorf("%w: %d, at most %d", errTooManyChanges, len(commands), cluster.MaxProposalCommands)
	}
	return commands, nil
}
