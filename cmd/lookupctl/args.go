package main

import "strings"

// longOptions returns args with -name written as --name: NSQ's programs take
// both. So letters behind one dash are one word, never several short options or
// a short option with its value: -o json and -o=json, but not -ojson.
func longOptions(args []string) []string {
	fixed := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			return append(fixed, args[i:]...)
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		if strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") && len(name) > 1 {
			arg = "-" + arg
		}
		fixed = append(fixed, arg)
	}
	return fixed
}
