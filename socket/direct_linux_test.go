//go:build linux && !race

package socket_test

import (
	"io"
	"testing"
)

func TestWriteAtOnce(t *testing.T) {
	direct, other := pair(t)
	at := direct.(interface{ WriteAtOnce([]byte) int })
	if n := at.WriteAtOnce([]byte("hello")); n != 5 {
		t.Errorf("%d bytes", n)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(other, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	large := make([]byte, 64<<20)
	if n := at.WriteAtOnce(large); n == 0 || n == len(large) { // nobody reads
		t.Errorf("%d bytes", n)
	}
}
