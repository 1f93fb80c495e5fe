package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/registry"
	"github.com/lookupd/lookupd/store"
)

func (s *Server) createTopic(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r)
	if err != nil {
		return err
	}
	topic, err := validTopic(values)
	if err != nil {
		return err
	}
	if err := s.room(topic, ""); err != nil {
		return err
	}
	if _, err := s.propose(w, r, registry.CreateTopic{Topic: topic}, slog.String("topic", topic)); err != nil {
		return err
	}
	writeDone(w)
	return nil
}

func (s *Server) createChannel(w http.ResponseWriter, r *http.Request) error {
	topic, channel, err := topicAndChannel(r)
	if err != nil {
		return err
	}
	if err := s.room(topic, channel); err != nil {
		return err
	}
	_, err = s.propose(w, r, registry.CreateChannel{Topic: topic, Channel: channel},
		slog.String("topic", topic), slog.String("channel", channel))
	if err != nil {
		return err
	}
	writeDone(w)
	return nil
}

func (s *Server) deleteTopic(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r)
	if err != nil {
		return err
	}
	topic, err := topicToHide(values)
	if err != nil {
		return err
	}
	return s.change(w, r, topic, registry.DeleteTopic{Topic: topic}, slog.String("topic", clip(topic)))
}

func (s *Server) tombstone(w http.ResponseWriter, r *http.Request) error {
	values, err := parameters(r)
	if err != nil {
		return err
	}
	topic, err := topicToHide(values)
	if err != nil {
		return err
	}
	producer, ok := first(values, "node")
	if !ok {
		return errMissingNode
	}
	return s.change(w, r, topic, registry.Tombstone{Topic: topic, Node: producer},
		slog.String("topic", clip(topic)), slog.String("node", clip(producer)))
}

func (s *Server) deleteChannel(w http.ResponseWriter, r *http.Request) error {
	topic, channel, err := topicAndChannel(r)
	if err != nil {
		return err
	}
	index, err := s.propose(w, r, registry.DeleteChannel{Topic: topic, Channel: channel},
		slog.String("topic", topic), slog.String("channel", channel))
	if errors.Is(err, registry.ErrChannelNotFound) {
		err = s.deletedElsewhere(r, topic, channel, index)
	}
	if err != nil {
		return err
	}
	writeDone(w)
	return nil
}

// deletedElsewhere returns nil if another peer deleted the channel lately, else
// why the delete fails. The leader refused it at index; what it had applied by
// then may be new to this peer, so this one catches up first.
func (s *Server) deletedElsewhere(r *http.Request, topic, channel string, index uint64) error {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Limits.AnswerWithin)
	defer cancel()
	if err := s.cfg.Cluster.WaitApplied(ctx, index); err != nil {
		return err
	}
	switch deleted, err := s.deletions.take(topic, channel); {
	case err != nil:
		return err
	case !deleted:
		return errChannelNotFound
	}
	return nil
}

// change is a write that may name what does not exist, and then succeeds. A
// name that cannot exist is not proposed; the barrier still proves a quorum.
func (s *Server) change(w http.ResponseWriter, r *http.Request, topic string, c registry.Command, about ...slog.Attr) error {
	var err error
	if registry.ValidName(topic) {
		_, err = s.propose(w, r, c, about...)
	} else {
		var info cluster.ReadInfo
		if info, err = s.await(r, readHow{}); err == nil {
			s.mark(w, info)
		}
	}
	if err != nil {
		return err
	}
	writeDone(w)
	return nil
}

// propose has a command committed, marks the answer with its index and logs
// who changed what. The error is a refusal by the state or one of node.Propose.
func (s *Server) propose(w http.ResponseWriter, r *http.Request, c registry.Command, about ...slog.Attr) (index uint64, err error) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Limits.AnswerWithin)
	defer cancel()
	results, index, err := s.cfg.Cluster.Propose(ctx, c)
	if err != nil {
		return 0, err
	}
	s.mark(w, cluster.ReadInfo{Index: index})
	about = append(about, slog.Uint64("index", index), slog.Bool("changed", results[0] == registry.ResultChanged),
		slog.String("remote", r.RemoteAddr))
	s.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "HTTP write "+r.URL.Path, about...)
	return index, results[0].Err()
}

// room refuses to create what would exceed a limit on the state. It asks what
// this peer has now: the limits protect memory, they need not be exact.
func (s *Server) room(topic, channel string) error {
	limits := s.cfg.Limits
	full := false
	err := s.cfg.Cluster.View(func(v *store.View) error {
		counts := v.Counts()
		if counts.Topics < limits.Topics && counts.Channels < min(limits.Channels, limits.ChannelsPerTopic) {
			return nil
		}
		known, exists := v.Topic(topic)
		full = !exists && counts.Topics >= limits.Topics
		if channel != "" && !slices.Contains(known.Channels, channel) {
			full = full || counts.Channels >= limits.Channels || len(known.Channels) >= limits.ChannelsPerTopic
		}
		return nil
	})
	if err == nil && full {
		return errLimit
	}
	return err
}

func validTopic(values url.Values) (string, error) {
	topic, ok := first(values, "topic")
	if !ok {
		return "", errMissingTopic
	}
	if !registry.ValidName(topic) {
		return "", errInvalidTopic
	}
	return topic, nil
}

// topicToHide takes the topic of a delete or a tombstone: any name but "*",
// which means all topics to nsqlookupd, and nothing here.
func topicToHide(values url.Values) (string, error) {
	topic, ok := first(values, "topic")
	if !ok {
		return "", errMissingTopic
	}
	if topic == "*" {
		return "", errInvalidTopic
	}
	return topic, nil
}

func topicAndChannel(r *http.Request) (topic, channel string, err error) {
	values, err := parameters(r)
	if err != nil {
		return "", "", err
	}
	topic, err = validTopic(values)
	if err != nil {
		return "", "", err
	}
	channel, ok := first(values, "channel")
	if !ok {
		return "", "", errMissingChannel
	}
	if !registry.ValidName(channel) {
		return "", "", errInvalidChannel
	}
	return topic, channel, nil
}
