package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/lookupd/lookupd/registry"
)

// BenchmarkLookup is one client on one connection, a topic with 5 channels and
// 3 producers, and a barrier that costs nothing.
func BenchmarkLookup(b *testing.B) {
	for _, consistency := range []string{"linearizable", "stale"} {
		b.Run(consistency, func(b *testing.B) {
			p := serve(b, newFakeCluster(b, "a").peers[0])
			for i := range 5 {
				p.cluster.propose(p.id, registry.CreateChannel{Topic: "t", Channel: fmt.Sprint(i)})
			}
			for i := range 3 {
				p.producer(uint64(i), nsqd(fmt.Sprint("n", i)), [2]string{"t", ""})
			}
			conn, err := net.Dial("tcp", p.addr)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			request := "GET /lookup?topic=t&consistency=" + consistency + " HTTP/1.1\r\nHost: a\r\n\r\n"
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.WriteString(conn, request); err != nil {
					b.Fatal(err)
				}
				resp, err := http.ReadResponse(answers, nil)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); err != nil || n < 500 {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// BenchmarkLookupBySize looks up topics at random in registries of 10 and of
// 10,000 topics, each with 5 channels and 3 producers: the cost must not grow
// with what the answer does not hold.
func BenchmarkLookupBySize(b *testing.B) {
	for _, topics := range []int{10, 10_000} {
		b.Run(fmt.Sprint(topics), func(b *testing.B) {
			p := serve(b, newFakeCluster(b, "a").peers[0])
			for producer := range 3 {
				info := nsqd(fmt.Sprint("n", producer))
				id := registry.SessionID{Node: p.id, Epoch: 1, Seq: uint64(producer + 1)}
				commands := []registry.Command{registry.OpenSession{Session: id, Producer: info}}
				for topic := range topics {
					for channel := range 5 {
						commands = append(commands, registry.Register{
							Session: id, Producer: info.ID(), Topic: fmt.Sprint("t", topic), Channel: fmt.Sprint("c", channel),
						})
					}
				}
				for part := range slices.Chunk(commands, 4096) {
					p.cluster.propose(p.id, part...)
				}
			}
			conn, err := net.Dial("tcp", p.addr)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			random := rand.New(rand.NewPCG(1, 2))
			for b.Loop() {
				if _, err := fmt.Fprintf(conn, "GET /lookup?topic=t%d HTTP/1.1\r\nHost: a\r\n\r\n", random.IntN(topics)); err != nil {
					b.Fatal(err)
				}
				resp, err := http.ReadResponse(answers, nil)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); err != nil || n < 500 {
					b.Fatal(n, err)
				}
			}
		})
	}
}
