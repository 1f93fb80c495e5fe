package check

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/lookupd/lookupd/proof/history"
)

// maxExplained is how many topics that no order explains end the search.
const maxExplained = 1

// Porcupine looks, topic by topic, for an order of all operations that explains
// what clients saw. It must be called after Witness, which gives the answers over
// V1 their index: that tells which commands of the log they are about. A topic
// that is not decided within limit is a violation too. What explains a
// violation is written to dir, as a page to look at.
func Porcupine(h *history.History, l *Log, limit time.Duration, dir string) (Verdict, error) {
	var v Verdict
	n, err := newNumbers(h, l)
	if err != nil {
		return v, err
	}
	byHost := map[string]*history.Session{}
	for _, s := range h.Sessions {
		byHost[s.Hostname] = s
	}
	model := porcupine.Model{
		Init: func() any { return state{} },
		Step: func(s, input, output any) (bool, any) {
			return s.(state).step(input.(*action), output.(answer))
		},
		DescribeOperation: func(input, output any) string { return describeAction(input.(*action), output.(answer)) },
	}
	for _, topic := range topics(h) {
		p := newPartition(topic, h, l, n, byHost)
		if p.err != nil {
			return v, p.err
		}
		v.Checked += len(p.ops)
		result := porcupine.CheckOperationsTimeout(model, p.ops, limit)
		if result == porcupine.Ok {
			continue
		}
		page := filepath.Join(dir, "topic-"+topic+".html")
		stuck, err := explain(model, p.ops, limit, page)
		if err != nil {
			return v, err
		}
		v.violation("topic %s: no order of its %d operations explains the answers: %v (%s). %s", topic, len(p.ops), result, page, stuck)
		if len(v.Violations) == maxExplained {
			break // one broken promise breaks many topics, and each costs the limit twice
		}
	}
	return v, nil
}

// topics returns the names of all topics that clients spoke of.
func topics(h *history.History) []string {
	set := map[string]bool{}
	for _, op := range h.Ops {
		if op.Topic != "" {
			set[op.Topic] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// explain draws what porcupine tried, and says in words where the longest
// attempt ended.
func explain(model porcupine.Model, ops []porcupine.Operation, limit time.Duration, path string) (string, error) {
	_, info := porcupine.CheckOperationsVerbose(model, ops, limit)
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	if err := errors.Join(porcupine.Visualize(model, info, file), file.Close()); err != nil {
		return "", err
	}
	var longest []porcupine.Operation
	for _, attempts := range info.PartialLinearizationsOperations() {
		for _, attempt := range attempts {
			if len(attempt) > len(longest) {
				longest = attempt
			}
		}
	}
	return stuck(model, ops, longest), nil
}

// stuck names the operation that had to come next: of those left, the one that
// returned first.
func stuck(model porcupine.Model, ops, done []porcupine.Operation) string {
	s := model.Init()
	placed := map[*action]bool{}
	for _, op := range done {
		placed[op.Input.(*action)] = true
		_, s = model.Step(s, op.Input, op.Output)
	}
	var next *porcupine.Operation
	for i, op := range ops {
		if !placed[op.Input.(*action)] && (next == nil || op.Return < next.Return) {
			next = &ops[i]
		}
	}
	if next == nil {
		return ""
	}
	return fmt.Sprintf("The best attempt places %d, to the state %+v; then comes %s, called %d us, returned %d us",
		len(done), s, describeAction(next.Input.(*action), next.Output.(answer)), next.Call/1000, next.Return/1000)
}

func describeAction(a *action, got answer) string {
	if a.op != nil {
		return fmt.Sprintf("%s %+v", describe(a.op), got)
	}
	return fmt.Sprintf("by the log: kind %d holder %d session %d channel %d", a.kind, a.holder, a.session, a.channel)
}
