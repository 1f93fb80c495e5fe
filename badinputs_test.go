package lookupd_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// badInputs is where each row's behaviour and test are described.
const badInputs = "docs/bad-inputs.md"

// lastRows is the number of the last row of each table.
var lastRows = map[string]int{"T": 35, "H": 19, "C": 11, "R": 12, "G": 8, "D": 16, "B": 6}

var (
	rowNumber  = regexp.MustCompile(`^[A-Z]\d+$`)
	caseNumber = regexp.MustCompile(`^([A-Z]\d+) `)
	testName   = regexp.MustCompile("`([a-z/0-9]+)\\.(Test[A-Za-z0-9]+)`")
)

// TestBadInputsAreTested holds the document and the tests together: every row is
// shown by the tests that it names, each with a case that begins with the row's
// number, or stands under "Later"; and no case has a number that the document
// lacks.
func TestBadInputsAreTested(t *testing.T) {
	shownBy, later := readRows(t)
	cases := findCases(t)
	for letter, last := range lastRows {
		for n := 1; n <= last; n++ {
			row := letter + strconv.Itoa(n)
			if len(shownBy[row]) == 0 && !later[row] {
				t.Errorf("%s: row %s is missing", badInputs, row)
			}
		}
	}
	for row, tests := range shownBy {
		for _, test := range tests {
			if !cases[row][test] {
				t.Errorf("%s: row %s names %s, which has no case %q", badInputs, row, test, row+" ...")
			}
		}
	}
	for row, tests := range cases {
		if lastRows[row[:1]] > 0 && len(shownBy[row]) == 0 {
			t.Errorf("%s: row %s is missing, %v test it", badInputs, row, tests)
		}
	}
}

// readRows returns the tests of each row of the document, and the rows that
// stand under "Later".
func readRows(t *testing.T) (shownBy map[string][]string, later map[string]bool) {
	t.Helper()
	text, err := os.ReadFile(badInputs)
	if err != nil {
		t.Fatal(err)
	}
	shownBy, later = map[string][]string{}, map[string]bool{}
	inLater := false
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "#") {
			inLater = strings.Contains(line, "Later")
		}
		cells := strings.Split(line, "|")
		if len(cells) < 3 || !rowNumber.MatchString(strings.TrimSpace(cells[1])) {
			continue
		}
		row := strings.TrimSpace(cells[1])
		if inLater {
			later[row] = true
			continue
		}
		tests := testName.FindAllStringSubmatch(cells[len(cells)-2], -1)
		if len(tests) == 0 || len(shownBy[row]) > 0 {
			t.Errorf("%s:%d: row %s names no test, or stands there twice", badInputs, i+1, row)
		}
		for _, test := range tests {
			shownBy[row] = append(shownBy[row], test[1]+"."+test[2])
		}
	}
	return shownBy, later
}

// findCases returns which tests have a case of which row: a text in the test's
// function that begins with the row's number.
func findCases(t *testing.T) map[string]map[string]bool {
	t.Helper()
	cases := map[string]map[string]bool{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(f.Name.Name, "Test") {
				continue
			}
			name := fmt.Sprintf("%s.%s", filepath.ToSlash(filepath.Dir(path)), f.Name.Name)
			ast.Inspect(f, func(n ast.Node) bool {
				if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING {
					if found := caseNumber.FindStringSubmatch(strings.Trim(text.Value, "\"`")); found != nil {
						if cases[found[1]] == nil {
							cases[found[1]] = map[string]bool{}
						}
						cases[found[1]][name] = true
					}
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return cases
}
