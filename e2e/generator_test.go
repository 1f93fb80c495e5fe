package e2e_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// slots is the number of connections that are used side by side.
const slots = 6

// generator draws the stream of the differential test. What DESIGN.md section 8
// lists is left out:
//
//	1  no length below 0 or above 64 KiB, no port outside 1-65535, no control
//	   characters in IDENTIFY, no fields above 255 bytes, no lines above 512
//	2  each slot is another producer, so none has two connections at a time
//	3  `*` only where nsqlookupd refuses it too
//	4  ephemeral names are unregistered one by one before a connection ends or
//	   a whole topic is unregistered; ephemeral topics have no channels
//	5  channel deletions all go to one peer
//	6  lists are sorted before they are compared
//	9  no pprof, no cross-site request
//
// 7, 8 and 12 need faults, limits or rivals; 10 and 11 do not show in what is
// compared.
type generator struct {
	random    *rand.Rand
	open      [slots]bool
	ephemeral [slots]map[string]bool // "topic channel" or "topic", held by the slot's producer
	pending   []action               // to be done before anything is drawn
}

func newGenerator(seed uint64) *generator {
	return &generator{random: rand.New(rand.NewPCG(seed, 0))}
}

// pick returns one of the words.
func (g *generator) pick(words ...string) string { return words[g.random.IntN(len(words))] }

func (g *generator) chance(percent int) bool { return g.random.IntN(100) < percent }

// next returns the next action.
func (g *generator) next() action {
	if len(g.pending) > 0 {
		a := g.pending[0]
		g.pending = g.pending[1:]
		return a
	}
	const httpPercent = 40
	if g.chance(httpPercent) {
		return g.http()
	}
	slot := g.random.IntN(slots)
	if !g.open[slot] {
		return g.connect(slot)
	}
	return g.tcp(slot)
}

// ended notes that a slot's connection is gone.
func (g *generator) ended(slot int) {
	g.open[slot], g.ephemeral[slot] = false, nil
	g.pending = slices.DeleteFunc(g.pending, func(a action) bool { return a.slot == slot })
}

func (g *generator) topic() string   { return g.pick("t0", "t1", "t2", "t.3", "T-4", "t_5", "..") }
func (g *generator) channel() string { return g.pick("c0", "c1", "c2", "c.3") }

func (g *generator) badName() string {
	return g.pick("*", "a/b", "ü", "#ephemeral", "a#ephemeralx", "a#b", strings.Repeat("x", 65), "\xff", "a\x00b", "a\tb",
		strings.Repeat("x", 55)+"#ephemeral", "%41", "<b>", "'")
}

// connect opens a slot, mostly well.
func (g *generator) connect(slot int) action {
	g.open[slot] = true
	const badPercent = 12
	if g.chance(badPercent) {
		return g.badConnect(slot)
	}
	a := action{slot: slot, open: "  V1", answers: 1}
	if g.chance(20) { // what may come before IDENTIFY
		a.send, a.answers = "PING\n", 2
	}
	a.send += identifyCommand(g.identity(slot))
	return a
}

// identity is a good IDENTIFY body: a slot is always the same producer.
func (g *generator) identity(slot int) string {
	body := fmt.Sprintf(`{"broadcast_address":"h%d.example","hostname":%q,"tcp_port":4150,"http_port":%d,"version":%q`,
		slot, g.pick("h", "ü", "", "<b>", `a"b\\c`), 4151+slot, g.pick("1.3.0", "1.2.1-alpha", "fake-version"))
	body += g.pick("", "", `,"colour":"blue"`, `,"tcp_port":4150`, `,"HOSTNAME":"upper"`, `,"nested":{"a":[1,2,{}]}`, `,"remote_address":"1.2.3.4:5"`)
	return body + "}"
}

// badConnect is an opening that ends with an error.
func (g *generator) badConnect(slot int) action {
	a := action{slot: slot, open: "  V1", answers: 1}
	field := func(name, value string) string {
		body := map[string]string{
			"broadcast_address": `"h.example"`, "hostname": `"h"`, "tcp_port": "4150", "http_port": "4151", "version": `"1.3.0"`,
		}
		body[name] = value
		return fmt.Sprintf(`{"broadcast_address":%s,"hostname":%s,"tcp_port":%s,"http_port":%s,"version":%s}`,
			body["broadcast_address"], body["hostname"], body["tcp_port"], body["http_port"], body["version"])
	}
	length := func(n uint32, body string) string {
		return "IDENTIFY\n" + string(binary.BigEndian.AppendUint32(nil, n)) + body
	}
	switch g.random.IntN(6) {
	case 0:
		a.open = g.pick("  V2", "GET ", "xxxx", "\x16\x03\x01\x02")
	case 1:
		a.send = g.pick("REGISTER t0\n", "REGISTER\n", "UNREGISTER t0 c\n", "REGISTER *\n", "NOP\n")
	case 2: // not JSON, or not an object with these fields
		a.send = identifyCommand(g.pick("", "{", "null", "{}", "[]", "7", `"x"`, "x", `{"a":1}x`, strings.Repeat("[", 10001)))
	case 3:
		name := g.pick("broadcast_address", "version")
		a.send = identifyCommand(field(name, g.pick(`""`, "null", "7", "[]")))
	case 4:
		name := g.pick("tcp_port", "http_port")
		a.send = identifyCommand(field(name, g.pick("0", `"4150"`, "4150.0", "1e3", "null", "9223372036854775808", "true")))
	case 5: // the client ends inside the length, or inside the body
		a.send, a.halfEnd = g.pick("IDENTIFY\n\x00\x00", length(100, `{"half":`)), true
	}
	return a
}

// tcp is a command on an open connection.
func (g *generator) tcp(slot int) action {
	switch n := g.random.IntN(100); {
	case n < 4:
		return g.beforeEnd(slot, action{slot: slot, hangUp: true})
	case n < 9:
		return g.beforeEnd(slot, action{slot: slot, send: g.badLine(), answers: 1})
	case n < 15:
		return g.ephemeralCommand(slot)
	case n < 22: // several commands in one write
		a := action{slot: slot}
		for range 1 + g.random.IntN(5) {
			a.send += g.goodLine()
			a.answers++
		}
		return g.beforeWholeTopic(slot, a)
	}
	return g.beforeWholeTopic(slot, action{slot: slot, send: g.goodLine(), answers: 1})
}

// goodLine is a command that is answered with OK.
func (g *generator) goodLine() string {
	t, c := g.topic(), g.channel()
	line := g.pick(
		"REGISTER "+t, "REGISTER "+t+" "+c, "REGISTER "+t+" "+c, "REGISTER "+t+" "+c+" extra words",
		"REGISTER "+t+"  "+c, "UNREGISTER "+t, "UNREGISTER "+t+" "+c, "UNREGISTER "+t+" "+c, "UNREGISTER "+t+"  "+c,
		"UNREGISTER unknown", "UNREGISTER "+t+" unknown", "PING", "PING a b",
	)
	return g.pick("", "", "", " ", "\t", "\u00a0", "\u2003") + line + g.pick("\n", "\n", "\n", "\r\n", " \n", "\u3000\n")
}

// badLine is a command that ends the connection.
func (g *generator) badLine() string {
	verb, bad := g.pick("REGISTER", "UNREGISTER"), g.badName()
	return g.pick(
		"\n", "   \n", "ping\n", "FOO x\n", "REGISTER\tt0\n", "Register t0\n", "PINGx\n", "\x00\n", "ü\n",
		verb+"\n", verb+" \n", verb+"  t0\n", verb+" "+bad+"\n", verb+" "+bad+" c0\n", verb+" t0 "+bad+"\n",
		"IDENTIFY\n", "IDENTIFY x y\n",
	)
}

// ephemeralCommand registers or unregisters an ephemeral name.
func (g *generator) ephemeralCommand(slot int) action {
	name := g.pick("e0#ephemeral", "e1#ephemeral", g.topic()+" x#ephemeral", g.topic()+" y#ephemeral")
	if g.ephemeral[slot] == nil {
		g.ephemeral[slot] = map[string]bool{}
	}
	if g.chance(60) {
		g.ephemeral[slot][name] = true
		return action{slot: slot, send: "REGISTER " + name + "\n", answers: 1}
	}
	delete(g.ephemeral[slot], name)
	return action{slot: slot, send: "UNREGISTER " + name + "\n", answers: 1}
}

// beforeEnd lets go of all ephemeral names and then does a.
func (g *generator) beforeEnd(slot int, a action) action {
	return g.release(slot, a, func(string) bool { return true })
}

// beforeWholeTopic lets go of the ephemeral channels of the topics that a may
// unregister as a whole, and then does a.
func (g *generator) beforeWholeTopic(slot int, a action) action {
	if !strings.Contains(a.send, "UNREGISTER") {
		return a
	}
	return g.release(slot, a, func(name string) bool { return strings.Contains(name, " ") })
}

func (g *generator) release(slot int, a action, which func(name string) bool) action {
	var names []string
	for name := range g.ephemeral[slot] {
		if which(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names) // the stream must follow from the seed
	all := make([]action, 0, len(names)+1)
	for _, name := range names {
		delete(g.ephemeral[slot], name)
		all = append(all, action{slot: slot, send: "UNREGISTER " + name + "\n", answers: 1})
	}
	all = append(all, a)
	g.pending = append(all[1:], g.pending...)
	return all[0]
}

// http is a request.
func (g *generator) http() action {
	t, c := g.topic(), g.channel()
	if g.chance(15) {
		t = g.pick("unknown", "", "a%2Fb", "%2B", "e0%23ephemeral", strings.Repeat("x", 65))
	}
	if g.chance(10) {
		c = g.pick("unknown", "", "a%2Fb", "%2A", "x%23ephemeral", strings.Repeat("x", 65))
	}
	if strings.HasPrefix(t, "e0") { // ephemeral topics have no channels here
		c = "a%2Fb"
	}
	node := fmt.Sprintf("h%d.example:%d", g.random.IntN(slots), 4151+g.random.IntN(slots))
	if g.chance(70) {
		slot := g.random.IntN(slots)
		node = fmt.Sprintf("h%d.example:%d", slot, 4151+slot)
	}
	switch n := g.random.IntN(100); {
	case n < 60:
		return action{slot: -1, request: "GET " + g.pick("/lookup?topic="+t, "/lookup?topic="+t, "/channels?topic="+t, "/topics", "/nodes", "/debug")}
	case n < 66:
		return action{slot: -1, request: "POST /topic/create?topic=" + g.pick(t, t, "%2A")}
	case n < 70:
		return action{slot: -1, request: "POST /topic/delete?topic=" + t}
	case n < 76:
		return action{slot: -1, request: "POST /channel/create?topic=" + t + "&channel=" + c}
	case n < 80:
		return action{slot: -1, request: "POST /channel/delete?topic=" + t + "&channel=" + c, samePeer: true}
	case n < 86:
		return action{slot: -1, request: "POST /topic/tombstone?topic=" + t + "&node=" + node}
	}
	return action{slot: -1, request: g.oddRequest(t)}
}

// oddRequest is one that a proper client does not send.
func (g *generator) oddRequest(t string) string {
	return g.pick(
		"GET /ping", "GET /info", "GET /", "POST /", "GET /nothing", "POST /create_topic?topic=x",
		"HEAD /ping", "HEAD /lookup?topic="+t, "PATCH /topics", "DELETE /nodes", "GET /topic/create?topic="+t,
		"POST /lookup?topic="+t, "OPTIONS /lookup", "OPTIONS /topic/create", "OPTIONS /nothing",
		"GET /topics/", "GET /Topics", "GET //topics", "POST /topic/create/?topic="+t, "POST /Topic/Create?topic="+t,
		"GET /lookup", "GET /lookup?", "GET /lookup?channel=c", "GET /channels", "POST /topic/create", "POST /topic/delete",
		"POST /channel/create", "POST /channel/create?topic="+t, "POST /channel/delete?channel=c", "POST /topic/tombstone",
		"POST /topic/tombstone?topic="+t, "POST /topic/tombstone?node=x",
		"GET /lookup?topic=%zz", "GET /lookup?a;b", "GET /topics?%zz", "GET /nodes?a;b", "GET /debug?%zz", "GET /ping?%zz",
		"POST /topic/create?topic=%zz", "POST /channel/delete?topic=t0;channel=c",
		"GET /lookup?topic="+t+"&topic=t0", "GET /lookup?topic="+t+"&format=json", "GET /channels?x=1&topic="+t,
		"POST /topic/create?topic=a%2Fb", "POST /topic/create?topic=%23ephemeral", "GET /lookup?topic=+t0", "GET /lookup?topic=t0+",
	)
}
