package main

import (
	"log/slog"
	"strings"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// notify tells systemd, or who else gave NOTIFY_SOCKET, how this process is, with
// a sentence for `systemctl status`. Without the variable it does nothing.
func notify(log *slog.Logger, state, sentence string) {
	// A line break in it would begin another assignment.
	sentence = strings.ReplaceAll(sentence, "\n", " ")
	if _, err := sd.SdNotify(false, state+"\nSTATUS="+sentence); err != nil {
		log.Warn("systemd is not told", "state", state, "err", err)
	}
}

// ready is what systemd is told once everything listens with the state loaded. A
// quorum is not waited for: the peers of a first start would wait for each other.
func (d *daemon) ready() {
	notify(d.log.Logger, sd.SdNotifyReady, "Serves nsqds at "+d.tcp.Addr().String()+" and HTTP at "+d.http.Addr().String()+" as "+string(d.node.ID())+
		". How the cluster is: lookupctl status")
}
