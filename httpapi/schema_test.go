package httpapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lookupd/lookupd/httpapi"
)

// schemas are what programs that read the documents may rely on.
const schemas = "../docs/schema"

// schema is the part of JSON Schema that the documents need.
type schema struct {
	Schema     string             `json:"$schema,omitempty"`
	Title      string             `json:"title,omitempty"`
	Type       any                `json:"type"` // a word, or two
	Properties map[string]*schema `json:"properties,omitempty"`
	Required   []string           `json:"required,omitempty"`
	Items      *schema            `json:"items,omitempty"`
}

// schemaOf is what encoding/json makes of a type.
func schemaOf(t *testing.T, of reflect.Type) *schema {
	t.Helper()
	switch of.Kind() {
	case reflect.String:
		return &schema{Type: "string"}
	case reflect.Bool:
		return &schema{Type: "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return &schema{Type: "integer"}
	case reflect.Float64:
		return &schema{Type: "number"}
	case reflect.Slice:
		return &schema{Type: "array", Items: schemaOf(t, of.Elem())}
	case reflect.Pointer:
		s := schemaOf(t, of.Elem())
		s.Type = []any{s.Type, "null"}
		return s
	case reflect.Struct:
		s := &schema{Type: "object", Properties: map[string]*schema{}}
		addFields(t, s, of)
		return s
	}
	t.Fatalf("no schema for %v", of)
	return nil
}

func addFields(t *testing.T, s *schema, of reflect.Type) {
	t.Helper()
	for i := range of.NumField() {
		field := of.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous:
			addFields(t, s, field.Type)
			continue
		case name == "":
			t.Fatalf("%v.%s has no name in JSON", of, field.Name)
		}
		of := field.Type
		if options == "omitempty" && of.Kind() == reflect.Pointer {
			of = of.Elem() // it is never null
		} else if options != "omitempty" {
			s.Required = append(s.Required, name)
		}
		s.Properties[name] = schemaOf(t, of)
	}
}

// TestSchemas fails when a field appears, goes or changes its type: whoever does
// that on purpose runs the test with -update, and tells of it in the change log.
func TestSchemas(t *testing.T) {
	documents := httpapi.Documents()
	for name, document := range documents {
		s := schemaOf(t, reflect.TypeOf(document))
		s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", name
		text, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, '\n')
		path := filepath.Join(schemas, name+".json")
		if *update {
			if err := os.WriteFile(path, text, 0o644); err != nil { //nolint:gosec // it is documentation
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, want) {
			t.Errorf("%s differs; go test -run TestSchemas -update writes it anew:\n%s", path, text)
		}
	}
	files, err := filepath.Glob(filepath.Join(schemas, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(documents) {
		t.Errorf("%v for the documents %v", files, slices.Sorted(maps.Keys(documents)))
	}
}

// misfit says where a value does not fit its schema, "" if it does. It is stricter
// than the schema, which lets later versions add fields.
func (s *schema) misfit(at string, value any) string {
	switch v := value.(type) {
	case map[string]any:
		for _, name := range s.Required {
			if _, there := v[name]; !there {
				return at + " lacks " + name
			}
		}
		for name, member := range v {
			if s.Properties[name] == nil {
				return at + " has " + name
			}
			if wrong := s.Properties[name].misfit(at+"."+name, member); wrong != "" {
				return wrong
			}
		}
		return s.wrongType(at, "object")
	case []any:
		for i, item := range v {
			if wrong := s.Items.misfit(fmt.Sprint(at, "[", i, "]"), item); wrong != "" {
				return wrong
			}
		}
		return s.wrongType(at, "array")
	case string:
		return s.wrongType(at, "string")
	case bool:
		return s.wrongType(at, "boolean")
	case float64:
		if v == math.Trunc(v) && s.wrongType(at, "integer") == "" {
			return ""
		}
		return s.wrongType(at, "number")
	case nil:
		return s.wrongType(at, "null")
	}
	return fmt.Sprintf("%s is a %T", at, value)
}

func (s *schema) wrongType(at, is string) string {
	words, several := s.Type.([]any)
	if s.Type == is || several && slices.Contains(words, any(is)) {
		return ""
	}
	return fmt.Sprintf("%s is of type %s, want %v", at, is, s.Type)
}

// TestAnswersFitTheirSchemas asks every route under /v1/ that answers a document.
func TestAnswersFitTheirSchemas(t *testing.T) {
	n := newFakeCluster(t, "a").peers[0]
	n.producer(1, nsqd("n1"), [2]string{"t", "c"})
	p := serve(t, n, withProcess(newFakeProcess()), func(c *httpapi.Config) { c.Sessions = pings{nsqd("n1").ID(): time.Now()} })
	n.status = healthy(p.addr)
	for request, name := range map[string]string{
		"GET /v1/status": "status", "GET /v1/check": "check", "GET /v1/producers": "producers", "GET /v1/producers?limit=x": "error",
		"GET /v1/autopilot": "autopilot", "DELETE /v1/peers/b": "removal", "DELETE /v1/peers/b?dry_run": "removal", "DELETE /v1/peers/needed": "error",
		"POST /v1/leader/transfer": "transfer", "POST /v1/leader/transfer?dry_run": "transfer", "GET /v1/config": "config", "PUT /v1/log-level?level=debug": "log-level",
		"PUT /v1/log-level?level=x": "error", "GET /v1/nowhere": "error", "POST /v1/status": "error", "POST /v1/import": "error",
	} {
		fits(t, name, p.do(request).body)
	}
	body := `{"create":[{"topic":"x","channels":["y"]}],"delete":[]}`
	fits(t, "import", body)
	fits(t, "imported", p.raw(fmt.Sprintf("POST /v1/import HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", p.addr, len(body), body), "POST").body)
}

func fits(t *testing.T, name, body string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(schemas, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	var value any
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(body), &value); err != nil {
		t.Fatalf("%s: %v in %s", name, err, body)
	}
	if wrong := s.misfit(name, value); wrong != "" {
		t.Errorf("%s in %s", wrong, body)
	}
}
