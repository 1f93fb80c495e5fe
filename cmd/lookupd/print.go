package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"
)

// print writes every value with its origin, as a TOML file that means the same.
func (o *options) print(w io.Writer, fs *flag.FlagSet) error {
	o.fillAddresses()
	var faults []error
	fs.VisitAll(func(f *flag.Flag) {
		if isCommand(f.Name) || f.Name == "config" {
			return
		}
		value := f.Value.(flag.Getter).Get()
		switch v := value.(type) {
		case bool:
		case int, int64:
			if text := f.Value.String(); strings.Trim(text, "0123456789-") != "" {
				value = text // a size with its unit
			}
		case []string:
			value = append([]string{}, v...) // empty, but there
		default:
			value = f.Value.String()
		}
		line, err := toml.Marshal(map[string]any{strings.ReplaceAll(f.Name, "-", "_"): value})
		if err == nil {
			_, err = fmt.Fprintf(w, "%s # %s\n", bytes.TrimSpace(line), strings.Map(printable, o.origin(f.Name)))
		}
		faults = append(faults, err)
	})
	return errors.Join(faults...)
}

// isCommand reports whether a flag says what to do rather than how.
func isCommand(name string) bool {
	return name == "version" || name == "print-config" || name == "check-config"
}

// printable keeps a comment on its line: a file's name may hold anything.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '?'
}
