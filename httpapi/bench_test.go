package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
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
