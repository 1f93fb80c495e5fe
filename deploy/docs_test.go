package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are those that operators read, with their paths.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"../README.md", "../docs/*.md", "../docs/runbooks/*.md"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatal(pattern, err)
		}
		for _, path := range paths {
			all[path] = read(t, path)
		}
	}
	return all
}

var fence = regexp.MustCompile("(?ms)^```.*?^```$")

// code returns what a document shows as code, a line or span each; a line that
// ends with a backslash goes on in the next.
func code(text string) (lines []string) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	prose := fence.ReplaceAllStringFunc(text, func(block string) string {
		lines = append(lines, strings.Split(block, "\n")...)
		return ""
	})
	for line := range strings.Lines(prose) {
		if strings.HasPrefix(line, "    ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(prose, -1) {
		lines = append(lines, strings.ReplaceAll(m[1], "\n", " "))
	}
	return lines
}

// command is one of lookupctl's, as its --help tells.
type command struct {
	children map[string]*command
	flags    map[string]bool // whether it takes a value
}

func helpTree(t *testing.T, path ...string) *command {
	t.Helper()
	out, err := run(t, "", filepath.Join(bin, "lookupctl"), append(path, "--help")...)
	if err != nil {
		t.Fatalf("lookupctl %v --help: %v\n%s", path, err, out)
	}
	c := &command{children: map[string]*command{}, flags: map[string]bool{"help": false, "h": false, "version": false}}
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-(\w), )?--([a-z-]+)( [a-zA-Z]+)?(?: |$)`).FindAllStringSubmatch(out, -1) {
		c.flags[m[1]], c.flags[m[2]] = m[3] != "", m[3] != ""
	}
	_, list, _ := strings.Cut(out, "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+) `).FindAllStringSubmatch(list, -1) {
		if m[1] != "help" {
			c.children[m[1]] = helpTree(t, append(slices.Clone(path), m[1])...)
		}
	}
	return c
}

// check says what is wrong with the words after "lookupctl", "" if nothing.
func (c *command) check(words []string) string {
	for i := 0; i < len(words); i++ {
		word := words[i]
		if name := strings.TrimLeft(word, "-"); name != word && name != "" {
			name, _, hasValue := strings.Cut(name, "=")
			takes, known := c.flags[name]
			if !known {
				return "no option " + word
			}
			if takes && !hasValue {
				i++
			}
			continue
		}
		if len(c.children) == 0 {
			continue // an argument
		}
		names := strings.Split(word, "|")
		for _, name := range names {
			if !regexp.MustCompile(`^[a-z]+$`).MatchString(name) {
				return "" // a word for any command, or prose
			}
			if c.children[name] == nil {
				return "no command " + name
			}
		}
		if len(names) > 1 {
			return ""
		}
		c = c.children[word]
	}
	return ""
}

// Every command and flag that a document shows exists.
func TestDocumentedCommandsExist(t *testing.T) {
	tree, flags := helpTree(t), daemonFlags(t)
	checked := 0
	for path, text := range documents(t) {
		for _, line := range code(text) {
			line, _, _ = strings.Cut(line, " #")
			for _, part := range regexp.MustCompile(` \| |\$\(|&&|;|\)`).Split(line, -1) {
				words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(part), "$ "))
				if at := slices.IndexFunc(words, func(w string) bool { return filepath.Base(w) == "lookupctl" }); at >= 0 {
					checked++
					if wrong := tree.check(words[at+1:]); wrong != "" {
						t.Errorf("%s: %q: %s", path, part, wrong)
					}
					continue
				}
				if len(words) > 1 && filepath.Base(words[0]) != "lookupd" {
					continue
				}
				for _, word := range words {
					m := regexp.MustCompile(`^-([a-z][a-z-]+)(=.*)?$`).FindStringSubmatch(word)
					if m == nil {
						continue
					}
					checked++
					if _, ours := tree.flags[m[1]]; !ours && !slices.Contains(append(flags, "help", "h", "long"), m[1]) {
						t.Errorf("%s: %q: lookupd has no flag %s", path, part, word)
					}
				}
			}
		}
	}
	if checked < 200 {
		t.Errorf("found only %d commands and flags: the test reads them wrongly", checked)
	}
}

// Every link to a file or to a heading leads somewhere.
func TestLinks(t *testing.T) {
	for path, text := range documents(t) {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s: %s has no heading #%s", path, target, anchor)
			}
		}
	}
}

// anchors are the names that GitHub gives to headings.
func anchors(text string) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		name := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
