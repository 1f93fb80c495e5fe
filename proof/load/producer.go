package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/lookupd/lookupd/proof/history"
	"github.com/lookupd/lookupd/registry"
)

const (
	// nsqd gives a dial and an answer a second each.
	dialWithin   = time.Second
	answerWithin = time.Second
	pingEvery    = 2 * time.Second
	backOff      = 150 * time.Millisecond
	maxAnswer    = 1 << 20
)

// producer is an nsqd as lookupd sees it, connected to one peer at a time.
type producer struct {
	load   *Load
	client int
	rand   *rand.Rand

	conn     net.Conn
	in       *bufio.Reader
	session  *history.Session
	changes  int // on this session
	lastPing time.Time
}

func (p *producer) run(ctx context.Context) {
	p.load.repeat(ctx, p.rand, func() { p.step(ctx) })
	p.load.settling.Done()
	// What was answered E_UNAVAILABLE is still tried as long as we stay.
	for p.load.frozen.Err() == nil {
		if p.conn != nil {
			p.ping()
		}
		sleep(p.load.frozen, pingEvery)
	}
	if p.conn == nil {
		p.load.freezing.Done()
		return
	}
	p.session.Alive, p.session.End = true, history.Forever
	p.load.freezing.Done()
	<-p.load.hangUp.Done()
	_ = p.conn.Close()
}

func (p *producer) step(ctx context.Context) {
	switch {
	case p.conn == nil:
		if !p.connect() {
			sleep(ctx, backOff)
		}
	case !p.loyal() && p.rand.IntN(150) == 0:
		p.hangUp()
	case time.Since(p.lastPing) > pingEvery:
		p.ping()
	case p.rand.IntN(5) < 3:
		p.change(history.Register)
	default:
		p.change(history.Unregister)
	}
}

// loyal producers stay as long as their peer does: only who was there before an
// outage and after it can tell whether what was refused in it was done later.
func (p *producer) loyal() bool { return p.client%2 == 0 }

// hangUp ends the connection: politely, or as if the process had died. The peer
// may have ended it before, so End stays where the last answer put it.
func (p *producer) hangUp() {
	if tcp, ok := p.conn.(*net.TCPConn); ok && p.rand.IntN(2) == 0 {
		_ = tcp.SetLinger(0) // so that closing resets it
	}
	_ = p.conn.Close()
	p.conn = nil
}

// lost gives up a connection that failed. When the peer ended it is not known:
// no earlier than the call of the last thing that it answered, which End holds.
func (p *producer) lost() {
	_ = p.conn.Close()
	p.conn = nil
}

func (p *producer) connect() bool {
	peer := p.load.pick(p.rand)
	conn, err := net.DialTimeout("tcp", peer.TCP, dialWithin)
	if err != nil {
		return false
	}
	host := producerHost(p.client)
	s := &history.Session{
		Producer: registry.ProducerID(net.JoinHostPort(host, strconv.Itoa(producerTCP))),
		Peer:     peer.Name, Identify: p.load.rec.Now(),
	}
	s.End = s.Identify
	p.load.rec.Open(s)
	s.Hostname = "s" + strconv.Itoa(s.Number)
	p.conn, p.in, p.session, p.changes, p.lastPing = conn, bufio.NewReader(conn), s, 0, time.Now()
	body := fmt.Sprintf(`{"broadcast_address":%q,"hostname":%q,"tcp_port":%d,"http_port":%d,"version":"1.3.0"}`,
		host, s.Hostname, producerTCP, producerHTTP)
	request := "  V1IDENTIFY\n" + string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
	answer, err := p.call(request)
	if err != nil || !strings.HasPrefix(answer, "{") {
		p.lost()
		return false
	}
	return true
}

func (p *producer) ping() {
	p.lastPing = time.Now()
	called := p.load.rec.Now()
	if answer, err := p.call("PING\n"); err != nil || answer != "OK" {
		p.lost()
		return
	}
	p.session.End = called
}

// change sends a REGISTER or an UNREGISTER and records it.
func (p *producer) change(kind history.Kind) {
	n := p.load.names
	op := &history.Op{
		Client: p.client, Kind: kind, Peer: p.session.Peer, Session: p.session.Number,
		Topic: n.topic(p.rand), Channel: n.channelOrNone(p.rand),
	}
	p.changes++
	op.N = p.changes
	word := "REGISTER"
	if kind == history.Unregister {
		word = "UNREGISTER"
		if op.Channel == "" && p.rand.IntN(3) > 0 { // a whole topic is withdrawn seldom
			op.Channel = n.channel(p.rand)
		}
	}
	op.Call = p.load.rec.Now()
	answer, err := p.call(strings.TrimSpace(word+" "+op.Topic+" "+op.Channel) + "\n")
	op.Return = p.load.rec.Now()
	switch {
	case err == nil && answer == "OK":
		op.Outcome = history.OK
		p.session.End = op.Call
	case err == nil && strings.HasPrefix(answer, "E_UNAVAILABLE"):
		op.Outcome, op.Return, op.Unavailable = history.Unknown, history.Forever, true
		p.session.End = op.Call
		time.Sleep(backOff) // as after any refusal: a minute of them tells no more than a few
	default:
		op.Outcome, op.Return = history.Unknown, history.Forever
		p.lost()
	}
	p.load.rec.Add(op)
}

// call sends a command and returns the answer's text.
func (p *producer) call(command string) (string, error) {
	if err := p.conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(p.conn, command); err != nil {
		return "", err
	}
	var size uint32
	if err := binary.Read(p.in, binary.BigEndian, &size); err != nil {
		return "", err
	}
	if size > maxAnswer {
		return "", fmt.Errorf("an answer of %d bytes", size)
	}
	answer := make([]byte, size)
	_, err := io.ReadFull(p.in, answer)
	return string(answer), err
}
