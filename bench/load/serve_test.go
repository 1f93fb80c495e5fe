package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// daemon answers V1 as if it held everything already, but refuses every
// REGISTER whose line contains a word, if that is not "".
func daemon(t *testing.T, refuse string) (address string, lines chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	lines = make(chan string, 10_000)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answerV1(conn, refuse, lines)
		}
	}()
	return listener.Addr().String(), lines
}

func answerV1(conn net.Conn, refuse string, lines chan<- string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	if _, err := in.Discard(len("  V1")); err != nil {
		return
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		lines <- strings.TrimSpace(line)
		answer := "OK"
		switch {
		case line == "IDENTIFY\n":
			var size uint32
			if binary.Read(in, binary.BigEndian, &size) != nil {
				return
			}
			if _, err := in.Discard(int(size)); err != nil {
				return
			}
			answer = "{" + strings.Repeat(" ", 500) + "}" // longer than the client's buffer
		case refuse != "" && strings.Contains(line, refuse):
			answer = "E_UNAVAILABLE not now"
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// serve has jobs done as a load process does.
func serve(t *testing.T, jobs ...Job) []answer {
	t.Helper()
	var in, out bytes.Buffer
	for _, j := range jobs {
		if err := json.NewEncoder(&in).Encode(j); err != nil {
			t.Fatal(err)
		}
	}
	if err := Serve(context.Background(), &in, &out); err != nil {
		t.Fatal(err)
	}
	var answers []answer
	for decoder := json.NewDecoder(&out); ; {
		var a answer
		if err := decoder.Decode(&a); err == io.EOF {
			return answers
		} else if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
	}
}

func TestDeclareRegistersEachOnce(t *testing.T) {
	address, lines := daemon(t, "")
	answers := serve(t,
		Job{Connect: &Connect{Addresses: []string{address, address}, Producers: 3, Name: "n", Everywhere: true}},
		Job{Declare: &Declare{From: 0, To: 300, Channels: 2, Holders: 3}},
	)
	if a := answers[1]; a.Error != "" || a.Result.Failed != 0 || a.Result.Ops != 1800 {
		t.Fatalf("%+v", a)
	}
	registered := map[string]int{}
	for range len(lines) {
		if line := <-lines; strings.HasPrefix(line, "REGISTER ") {
			registered[line]++
		}
	}
	for topic := range 300 {
		for c := range 2 {
			line := fmt.Sprintf("REGISTER %s %s", Topic(topic), Channel(c))
			if registered[line] != 3 {
				t.Errorf("%q came %d times, want once of each producer", line, registered[line])
			}
		}
	}
}

// An answer that is not OK must be counted as failed wherever it comes.
func TestRefusalsAreCounted(t *testing.T) {
	address, _ := daemon(t, "channel-3\n")
	answers := serve(t,
		Job{Connect: &Connect{Addresses: []string{address}, Producers: 2, Name: "n"}},
		Job{Register: &Register{PerSession: 10, Fresh: "f"}},
		Job{Register: &Register{PerSession: 10, Fresh: "g", Reconnect: true}},
		Job{Declare: &Declare{From: 0, To: 10, Channels: 5, Holders: 2}},
		Job{Put: &Put{}},
	)
	for _, a := range answers[1:3] {
		if a.Result.Failed != 2 || a.Result.Ops != 18 || !strings.Contains(a.Result.FirstError, "E_UNAVAILABLE") {
			t.Errorf("%+v, want 2 of 20 failed", a)
		}
	}
	if a := answers[3]; a.Result.Failed != 2 || !strings.Contains(a.Result.FirstError, "10 of 50") {
		t.Errorf("%+v, want both sessions to say that 10 of 50 came late", a)
	}
	if answers[4].Error == "" {
		t.Error("a put without etcd was done")
	}
}
