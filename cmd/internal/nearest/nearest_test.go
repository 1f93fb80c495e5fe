package nearest_test

import (
	"testing"

	"github.com/lookupd/lookupd/cmd/internal/nearest"
)

func TestOf(t *testing.T) {
	words := []string{"address", "output", "outputs", "quiet"}
	for wrong, want := range map[string]string{
		"adress": "address", "quite": "quiet", "output": "output", "outputt": "output", "OUTPUT": "", "": "", "token": "",
	} {
		if got := nearest.Of(wrong, words, 2); got != want {
			t.Errorf("%q: %q, want %q", wrong, got, want)
		}
	}
}
