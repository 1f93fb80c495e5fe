package fsm

import (
	"fmt"

	"github.com/lookupd/lookupd/fsm/fsmpb"
	"github.com/lookupd/lookupd/registry"
	"google.golang.org/protobuf/proto"
)

// toWire maps a valid command to its message; fromWire maps it back.
func toWire(command registry.Command) *fsmpb.Command {
	w := new(fsmpb.Command)
	switch c := command.(type) {
	case registry.OpenSession:
		w.Kind = &fsmpb.Command_OpenSession{OpenSession: &fsmpb.OpenSession{
			Session: sessionToWire(c.Session, ""), Producer: producerToWire(c.Producer),
		}}
	case registry.CloseSession:
		w.Kind = &fsmpb.Command_CloseSession{CloseSession: sessionToWire(c.Session, c.Producer)}
	case registry.EndOrphan:
		w.Kind = &fsmpb.Command_EndOrphan{EndOrphan: &fsmpb.EndOrphan{Session: sessionToWire(c.Session, c.Producer), Term: c.Term}}
	case registry.SuspendSession:
		w.Kind = &fsmpb.Command_SuspendSession{SuspendSession: sessionToWire(c.Session, c.Producer)}
	case registry.ResumeSession:
		w.Kind = &fsmpb.Command_ResumeSession{ResumeSession: sessionToWire(c.Session, c.Producer)}
	case registry.Register:
		w.Kind = &fsmpb.Command_Register{Register: &fsmpb.Declaration{
			Session: sessionToWire(c.Session, c.Producer), Topic: c.Topic, Channel: c.Channel,
		}}
	case registry.Unregister:
		w.Kind = &fsmpb.Command_Unregister{Unregister: &fsmpb.Declaration{
			Session: sessionToWire(c.Session, c.Producer), Topic: c.Topic, Channel: c.Channel,
		}}
	case registry.CreateTopic:
		w.Kind = &fsmpb.Command_CreateTopic{CreateTopic: &fsmpb.Name{Topic: c.Topic}}
	case registry.DeleteTopic:
		w.Kind = &fsmpb.Command_DeleteTopic{DeleteTopic: &fsmpb.Name{Topic: c.Topic}}
	case registry.CreateChannel:
		w.Kind = &fsmpb.Command_CreateChannel{CreateChannel: &fsmpb.Name{Topic: c.Topic, Channel: c.Channel}}
	case registry.DeleteChannel:
		w.Kind = &fsmpb.Command_DeleteChannel{DeleteChannel: &fsmpb.Name{Topic: c.Topic, Channel: c.Channel}}
	case registry.Tombstone:
		w.Kind = &fsmpb.Command_Tombstone{Tombstone: &fsmpb.Tombstone{Topic: c.Topic, Node: []byte(c.Node)}}
	case registry.EndTombstone:
		w.Kind = &fsmpb.Command_EndTombstone{EndTombstone: &fsmpb.EndTombstone{
			Topic: c.Topic, Producer: string(c.Producer), SetAt: c.SetAt,
		}}
	case registry.Noop:
		w.Kind = &fsmpb.Command_Noop{Noop: &fsmpb.Noop{}}
	}
	return w
}

func fromWire(w *fsmpb.Command) (registry.Command, error) {
	switch kind := w.GetKind().(type) {
	case *fsmpb.Command_OpenSession:
		m := kind.OpenSession
		id, _, err := sessionFromWire(m.GetSession())
		if err == nil {
			err = knownAll(m, m.GetProducer())
		}
		return registry.OpenSession{Session: id, Producer: producerFromWire(m.GetProducer())}, err
	case *fsmpb.Command_CloseSession:
		id, p, err := sessionFromWire(kind.CloseSession)
		return registry.CloseSession{Session: id, Producer: p}, err
	case *fsmpb.Command_EndOrphan:
		id, p, err := sessionFromWire(kind.EndOrphan.GetSession())
		if err == nil {
			err = knownAll(kind.EndOrphan)
		}
		return registry.EndOrphan{Session: id, Producer: p, Term: kind.EndOrphan.GetTerm()}, err
	case *fsmpb.Command_SuspendSession:
		id, p, err := sessionFromWire(kind.SuspendSession)
		return registry.SuspendSession{Session: id, Producer: p}, err
	case *fsmpb.Command_ResumeSession:
		id, p, err := sessionFromWire(kind.ResumeSession)
		return registry.ResumeSession{Session: id, Producer: p}, err
	case *fsmpb.Command_Register:
		id, p, err := declarationFromWire(kind.Register)
		return registry.Register{Session: id, Producer: p, Topic: kind.Register.GetTopic(), Channel: kind.Register.GetChannel()}, err
	case *fsmpb.Command_Unregister:
		id, p, err := declarationFromWire(kind.Unregister)
		return registry.Unregister{Session: id, Producer: p, Topic: kind.Unregister.GetTopic(), Channel: kind.Unregister.GetChannel()}, err
	case *fsmpb.Command_CreateTopic:
		return registry.CreateTopic{Topic: kind.CreateTopic.GetTopic()}, knownAll(kind.CreateTopic)
	case *fsmpb.Command_DeleteTopic:
		return registry.DeleteTopic{Topic: kind.DeleteTopic.GetTopic()}, knownAll(kind.DeleteTopic)
	case *fsmpb.Command_CreateChannel:
		m := kind.CreateChannel
		return registry.CreateChannel{Topic: m.GetTopic(), Channel: m.GetChannel()}, knownAll(m)
	case *fsmpb.Command_DeleteChannel:
		m := kind.DeleteChannel
		return registry.DeleteChannel{Topic: m.GetTopic(), Channel: m.GetChannel()}, knownAll(m)
	case *fsmpb.Command_Tombstone:
		m := kind.Tombstone
		return registry.Tombstone{Topic: m.GetTopic(), Node: string(m.GetNode())}, knownAll(m)
	case *fsmpb.Command_EndTombstone:
		m := kind.EndTombstone
		return registry.EndTombstone{
			Topic: m.GetTopic(), Producer: registry.ProducerID(m.GetProducer()), SetAt: m.GetSetAt(),
		}, knownAll(m)
	case *fsmpb.Command_Noop:
		return registry.Noop{}, knownAll(kind.Noop)
	}
	return nil, fmt.Errorf("%w: %w", ErrBadBatch, errNoCommand)
}

// knownAll calls knownFields for each message.
func knownAll(messages ...proto.Message) error {
	for _, m := range messages {
		if err := knownFields(m.ProtoReflect()); err != nil {
			return err
		}
	}
	return nil
}

func sessionToWire(id registry.SessionID, p registry.ProducerID) *fsmpb.Session {
	return &fsmpb.Session{Node: string(id.Node), Epoch: id.Epoch, Seq: id.Seq, Producer: string(p)}
}

func sessionFromWire(m *fsmpb.Session) (registry.SessionID, registry.ProducerID, error) {
	id := registry.SessionID{Node: registry.NodeID(m.GetNode()), Epoch: m.GetEpoch(), Seq: m.GetSeq()}
	return id, registry.ProducerID(m.GetProducer()), knownFields(m.ProtoReflect())
}

func declarationFromWire(m *fsmpb.Declaration) (registry.SessionID, registry.ProducerID, error) {
	if err := knownFields(m.ProtoReflect()); err != nil {
		return registry.SessionID{}, "", err
	}
	return sessionFromWire(m.GetSession())
}

func producerToWire(p registry.ProducerInfo) *fsmpb.Producer {
	return &fsmpb.Producer{
		RemoteAddress: p.RemoteAddress, Hostname: p.Hostname, BroadcastAddress: p.BroadcastAddress,
		TcpPort: uint32(p.TCPPort), HttpPort: uint32(p.HTTPPort), Version: p.Version,
		TopologyZone: p.TopologyZone, TopologyRegion: p.TopologyRegion,
	}
}

func producerFromWire(m *fsmpb.Producer) registry.ProducerInfo {
	return registry.ProducerInfo{
		RemoteAddress: m.GetRemoteAddress(), Hostname: m.GetHostname(), BroadcastAddress: m.GetBroadcastAddress(),
		TCPPort: int(m.GetTcpPort()), HTTPPort: int(m.GetHttpPort()), Version: m.GetVersion(),
		TopologyZone: m.GetTopologyZone(), TopologyRegion: m.GetTopologyRegion(),
	}
}
