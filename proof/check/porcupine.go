package check

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/lookupd/lookupd/proof/history"
)

// Porcupine looks, topic by topic, for an order of all operations that explains
// what clients saw. It must be called after Witness, which gives the answers over
// V1 their index: that tells which commands of the log they are about. A topic
// that is not decided within limit is a violation too. What explains a
// violation is written to dir, as a page to look at.
func Porcupine(h *history.History, l *Log, topics []string, limit time.Duration, dir string) (Verdict, error) {
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
	for _, topic := range topics {
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
		v.violation("topic %s: no order of its %d operations explains the answers: %v (%s)", topic, len(p.ops), result, page)
		if err := visualize(model, p.ops, limit, page); err != nil {
			return v, err
		}
	}
	return v, nil
}

func visualize(model porcupine.Model, ops []porcupine.Operation, limit time.Duration, path string) error {
	_, info := porcupine.CheckOperationsVerbose(model, ops, limit)
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := porcupine.Visualize(model, info, file); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

func describeAction(a *action, got answer) string {
	if a.op != nil {
		return fmt.Sprintf("%s %+v", describe(a.op), got)
	}
	return fmt.Sprintf("by the log: kind %d holder %d session %d channel %d", a.kind, a.holder, a.session, a.channel)
}
