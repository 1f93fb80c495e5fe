package main

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
)

// Formats of --output.
const (
	formatTable = "table"
	formatWide  = "wide" // with all columns
	formatJSON  = "json" // the peer's document, unchanged
	formatCSV   = "csv"  // with all columns
	formatName  = "name" // the first column alone
)

var formats = []string{formatTable, formatWide, formatJSON, formatCSV, formatName}

// listing is a list as a table. Its first column names the row.
type listing struct {
	columns []column
	rows    []table.Row
}

type column struct {
	title string
	wide  bool // shown by wide and csv only
}

// columns makes columns of titles; one that begins with + is wide.
func columns(titles ...string) []column {
	all := make([]column, len(titles))
	for i, title := range titles {
		all[i] = column{title: strings.TrimPrefix(title, "+"), wide: strings.HasPrefix(title, "+")}
	}
	return all
}

func (l *listing) add(values ...any) { l.rows = append(l.rows, values) }

// print writes the list, not for formatJSON.
func (o *options) print(l listing) {
	if o.output == formatName {
		for _, row := range l.rows {
			fmt.Fprintln(o.out, row[0])
		}
		return
	}
	all := o.output != formatTable
	pick := func(row table.Row) (picked table.Row) {
		for i, c := range l.columns {
			if all || !c.wide {
				picked = append(picked, row[i])
			}
		}
		return picked
	}
	var titles []string
	for _, c := range l.columns {
		if all || !c.wide {
			titles = append(titles, c.title)
		}
	}
	t := newTable(titles...)
	for _, row := range l.rows {
		t.AppendRow(pick(row))
	}
	if o.output == formatCSV {
		fmt.Fprintln(o.out, t.RenderCSV())
		return
	}
	if len(l.rows) > 0 {
		fmt.Fprintln(o.out, t.Render())
	}
}

// sentence is said before a table, and is no part of csv and name.
func (o *options) sentence(format string, args ...any) {
	if o.output == formatTable || o.output == formatWide {
		fmt.Fprintf(o.out, format+"\n", args...)
	}
}

// confirmed asks before something is changed or deleted. Without a terminal
// nobody can answer: then --yes is needed. The end of ctx is a no.
func (o *options) confirmed(ctx context.Context, question string) error {
	switch {
	case o.yes:
		return nil
	case !o.interactive:
		return usageError{fmt.Errorf("%s --yes says so where nobody can be asked, --dry-run shows what would be done", question)}
	}
	fmt.Fprintf(o.err, "%s [y/N] ", question)
	answers := make(chan string, 1)
	go func() { // nothing ends a read of a terminal: it may wait until the process ends
		line, err := bufio.NewReader(o.in).ReadString('\n')
		if err != nil {
			line = ""
		}
		answers <- line
	}()
	select {
	case line := <-answers:
		if ctx.Err() == nil && slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(line))) {
			return nil
		}
	case <-ctx.Done():
		fmt.Fprintln(o.err)
	}
	return exitError{exitFailed, "nothing was changed"}
}
