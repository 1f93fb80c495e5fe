package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"
)

// controlTimeout bounds one sub-command of dev; the slowest waits for an election.
const controlTimeout = 60 * time.Second

// devReply is what the running dev answers to a sub-command.
type devReply struct {
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
}

// devServer takes sub-commands on a Unix socket.
type devServer struct {
	listener net.Listener
	server   *http.Server
	done     chan struct{} // closed when serving has ended, nil before
}

// makePrivate makes a directory that only this user can enter, or checks that it is one.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory; --dir names another", dir)
	}
	const othersWrite = 0o022
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(stat.Uid) != os.Getuid() || info.Mode().Perm()&othersWrite != 0 {
		return fmt.Errorf("%s belongs to or can be changed by other users; --dir names another", dir)
	}
	return nil
}

// listenDev binds the control socket; a socket that an ended dev left is replaced.
func listenDev(ctx context.Context, path string) (*devServer, error) {
	var dialer net.Dialer
	if conn, err := dialer.DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close() // only asked whether somebody is there
		return nil, fmt.Errorf("a dev cluster runs already, controlled by %s; stop it, or give this one another --dir", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return &devServer{listener: listener}, nil
}

// serve answers sub-commands, one at a time, until close.
func (s *devServer) serve(c *devCluster) {
	var one sync.Mutex
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{verb}", func(w http.ResponseWriter, r *http.Request) {
		one.Lock()
		defer one.Unlock()
		ctx, cancel := context.WithTimeout(r.Context(), controlTimeout)
		defer cancel()
		message, err := c.do(ctx, r.PathValue("verb"), r.URL.Query().Get("name"))
		reply := devReply{Message: message}
		if err != nil {
			reply.Error = err.Error()
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(reply) // the caller is gone if this fails
	})
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: controlTimeout}
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		_ = s.server.Serve(s.listener) // ends with ErrServerClosed at close
	}()
}

func (s *devServer) close() error {
	if s.server == nil {
		return s.listener.Close()
	}
	err := s.server.Close()
	<-s.done
	return err
}

// callDev has the running dev carry out a sub-command.
func callDev(ctx context.Context, socket, verb, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://dev/"+verb+"?name="+url.QueryEscape(name), nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("no dev cluster answers at %s; start one with: lookupctl dev: %w", socket, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDocument))
	if err != nil {
		return "", err
	}
	var reply devReply
	if err := json.Unmarshal(body, &reply); err != nil {
		return "", fmt.Errorf("%s: %w", socket, err)
	}
	if reply.Error != "" {
		return "", errors.New(reply.Error)
	}
	return reply.Message, nil
}
