package main

import (
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/lookupd/lookupd/cluster"
	"github.com/lookupd/lookupd/httpapi"
)

// painted returns a word of health in its colour, where somebody sees colours:
// the word alone says as much.
func (o *options) painted(word string) string {
	if !o.color || o.output != formatTable && o.output != formatWide {
		return word
	}
	switch word {
	case string(cluster.HealthOK):
		return escaped(word, text.FgGreen)
	case string(httpapi.LevelWarn):
		return escaped(word, text.FgYellow)
	case string(cluster.HealthDown), string(httpapi.LevelCrit):
		return escaped(word, text.FgRed)
	}
	return word
}

// escaped does not ask the library whether this is a terminal: the caller has.
func escaped(word string, color text.Color) string {
	return color.EscapeSeq() + word + text.Reset.EscapeSeq()
}
