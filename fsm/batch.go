package fsm

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/lookupd/lookupd/fsm/fsmpb"
	"github.com/lookupd/lookupd/registry"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// CommandFormat is the highest command kind that this binary knows.
const CommandFormat = 14

// Errors of EncodeBatch and DecodeBatch.
var (
	// ErrUnknownCommand: the batch was made by a newer version.
	ErrUnknownCommand = errors.New("entry of a newer version")
	// ErrBadBatch: the bytes are no batch, or a command of it cannot be.
	ErrBadBatch = errors.New("not a batch")
)

// Batch is what one entry of the log holds: commands of one origin. A batch
// that is proposed again after an unknown outcome keeps its Epoch and Number.
type Batch struct {
	Origin registry.NodeID // "" only if all commands are no-ops
	Epoch  uint64          // the origin's start
	Number uint64          // counts the origin's batches since that start, from 1
	// Commands are applied in this order, all or, if the batch is late, none.
	Commands []registry.Command
}

// BatchResult is what a batch's raft.ApplyFuture responds with.
type BatchResult struct {
	// Index of the entry that took effect: of an earlier one if the batch came twice.
	Index uint64
	// Results has one result per command, nil if Stale.
	Results []registry.Result
	// Stale: a later batch of this origin was applied before; this one was ignored.
	Stale bool
}

// EncodeBatch returns the bytes of a log entry, or ErrBadBatch.
func EncodeBatch(b Batch) ([]byte, error) {
	if err := b.validate(); err != nil {
		return nil, err
	}
	pb := &fsmpb.Batch{
		Origin: string(b.Origin), Epoch: b.Epoch, Number: b.Number,
		Commands: make([]*fsmpb.Command, 0, len(b.Commands)),
	}
	for _, command := range b.Commands {
		pb.Commands = append(pb.Commands, toWire(command))
	}
	data, err := proto.Marshal(pb)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadBatch, err)
	}
	return data, nil
}

// DecodeBatch is the inverse of EncodeBatch. It refuses all that could not be
// applied, so a leader that decodes what it is asked to propose keeps entries
// out of the log that would stop every peer. Errors are ErrUnknownCommand and
// ErrBadBatch.
func DecodeBatch(data []byte) (Batch, error) {
	pb := new(fsmpb.Batch)
	if err := proto.Unmarshal(data, pb); err != nil {
		return Batch{}, fmt.Errorf("%w: %w", ErrBadBatch, err)
	}
	if err := knownFields(pb.ProtoReflect()); err != nil {
		return Batch{}, err
	}
	b := Batch{
		Origin: registry.NodeID(pb.GetOrigin()), Epoch: pb.GetEpoch(), Number: pb.GetNumber(),
		Commands: make([]registry.Command, 0, len(pb.GetCommands())),
	}
	for i, command := range pb.GetCommands() {
		if err := knownFields(command.ProtoReflect()); err != nil {
			return Batch{}, fmt.Errorf("command %d: %w", i+1, err)
		}
		c, err := fromWire(command)
		if err != nil {
			return Batch{}, fmt.Errorf("command %d: %w", i+1, err)
		}
		b.Commands = append(b.Commands, c)
	}
	return b, b.validate()
}

// knownFields returns ErrUnknownCommand if the message has a field that this
// binary does not know: left out, a newer version's field would have another
// effect here than there.
func knownFields(m protoreflect.Message) error {
	unknown := m.GetUnknown()
	if len(unknown) == 0 {
		return nil
	}
	field, _, _ := protowire.ConsumeTag(unknown)
	return fmt.Errorf("%w: %s has kind or field %d, this binary knows command kinds up to %d",
		ErrUnknownCommand, m.Descriptor().Name(), field, CommandFormat)
}

// validate holds what store needs to make keys. It may never become stricter:
// entries that are in a log must stay good.
func (b Batch) validate() error {
	if len(b.Origin) > maxOrigin {
		return fmt.Errorf("%w: origin of %d bytes", ErrBadBatch, len(b.Origin))
	}
	for i, command := range b.Commands {
		if _, noop := command.(registry.Noop); !noop && b.Origin == "" {
			return fmt.Errorf("%w: command %d: no origin", ErrBadBatch, i+1)
		}
		if err := Validate(command); err != nil {
			return fmt.Errorf("command %d: %w", i+1, err)
		}
	}
	return nil
}

var (
	errBadName     = errors.New("invalid topic or channel name")
	errBadProducer = errors.New("invalid producer")
	errBadSession  = errors.New("session without a node")
	errNoCommand   = errors.New("no command")
)

// maxOrigin is far above a node id's length; no key of the state may be longer.
const maxOrigin = 1024

// maxProducer is far above what registry.ProducerInfo.Validate allows.
const maxProducer = 1024

// Validate returns ErrBadBatch if no batch can hold the command.
func Validate(command registry.Command) error {
	if err := validate(command); err != nil {
		return fmt.Errorf("%w: %w", ErrBadBatch, err)
	}
	return nil
}

func validate(command registry.Command) error {
	switch c := command.(type) {
	case registry.OpenSession:
		if c.Producer.TCPPort < 0 || c.Producer.TCPPort > 65535 || c.Producer.HTTPPort < 0 || c.Producer.HTTPPort > 65535 {
			return errBadProducer
		}
		p := c.Producer
		for _, text := range []string{p.RemoteAddress, p.Hostname, p.BroadcastAddress, p.Version, p.TopologyZone, p.TopologyRegion} {
			if !utf8.ValidString(text) { // protobuf would refuse the whole batch
				return errBadProducer
			}
		}
		return validateSession(c.Session, p.ID())
	case registry.CloseSession:
		return validateSession(c.Session, c.Producer)
	case registry.EndOrphan:
		return validateSession(c.Session, c.Producer)
	case registry.SuspendSession:
		return validateSession(c.Session, c.Producer)
	case registry.ResumeSession:
		return validateSession(c.Session, c.Producer)
	case registry.Register:
		return errors.Join(validateSession(c.Session, c.Producer), validateNames(c.Topic, c.Channel, true))
	case registry.Unregister:
		return errors.Join(validateSession(c.Session, c.Producer), validateNames(c.Topic, c.Channel, true))
	case registry.CreateTopic:
		return validateNames(c.Topic, "", true)
	case registry.DeleteTopic:
		return validateNames(c.Topic, "", true)
	case registry.CreateChannel:
		return validateNames(c.Topic, c.Channel, false)
	case registry.DeleteChannel:
		return validateNames(c.Topic, c.Channel, false)
	case registry.Tombstone:
		return validateNames(c.Topic, "", true)
	case registry.EndTombstone:
		return errors.Join(validateProducer(c.Producer), validateNames(c.Topic, "", true))
	case registry.Noop:
		return nil
	}
	return errNoCommand
}

func validateSession(id registry.SessionID, p registry.ProducerID) error {
	if id.Node == "" || !utf8.ValidString(string(id.Node)) {
		return errBadSession
	}
	return validateProducer(p)
}

func validateProducer(p registry.ProducerID) error {
	if p == "" || len(p) > maxProducer || !utf8.ValidString(string(p)) || strings.Contains(string(p), "\x00") {
		return errBadProducer
	}
	return nil
}

func validateNames(topic, channel string, channelMayLack bool) error {
	if !registry.ValidName(topic) || !registry.ValidName(channel) && !(channelMayLack && channel == "") {
		return errBadName
	}
	return nil
}
