package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const keysPerTxn = 128 // etcd's default limit

// etcdClients is the etcd clients of one load process.
type etcdClients struct {
	clients []*clientv3.Client
	values  [3]string // what producers would store of themselves
}

// dialEtcd makes clients that have one connection each, to the endpoints in turn.
func dialEtcd(ctx context.Context, job *Dial) (*etcdClients, error) {
	e := &etcdClients{clients: make([]*clientv3.Client, job.Clients)}
	for i := range e.values {
		e.values[i] = producerJSON(i)
	}
	errs := make([]error, len(e.clients))
	var wait sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range e.clients {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			e.clients[i], errs[i] = clientv3.New(clientv3.Config{
				Endpoints: []string{job.Endpoints[i%len(job.Endpoints)]}, DialTimeout: requestTimeout, Logger: zap.NewNop(),
			})
			if errs[i] == nil {
				_, errs[i] = e.clients[i].Get(ctx, "/nsq") // connects
			}
		})
	}
	wait.Wait()
	return e, errors.Join(errs...)
}

// producerJSON is the part of a lookup's answer that describes one producer.
func producerJSON(i int) string {
	host := ProducerHost("nsqd", i)
	text, err := json.Marshal(map[string]any{
		"remote_address": "127.0.0.1:50000", "broadcast_address": host, "hostname": host,
		"tcp_port": 4150, "http_port": 4151, "version": "1.3.0",
	})
	if err != nil {
		return ""
	}
	return string(text)
}

// fill puts a key per registration of a channel, in transactions.
func (e *etcdClients) fill(ctx context.Context, job *Fill) Result {
	var next atomic.Int64
	next.Store(int64(job.From))
	perTopic := job.Channels * job.Holders
	step := max(1, keysPerTxn/perTopic)
	start := time.Now()
	tallies := each(min(len(e.clients), 32), func(i int, t *tally) {
		for {
			from := int(next.Add(int64(step))) - step
			if from >= job.To {
				return
			}
			began := time.Now()
			_, err := e.clients[i].Txn(ctx).Then(e.puts(job, from, min(from+step, job.To))...).Commit()
			t.add(time.Since(began), err)
		}
	})
	r := sum(tallies, time.Since(start))
	r.Ops = (job.To - job.From) * perTopic
	return r
}

func (e *etcdClients) puts(job *Fill, from, to int) []clientv3.Op {
	var ops []clientv3.Op
	for topic := from; topic < to; topic++ {
		for h := range job.Holders {
			for c := range job.Channels {
				key := keyPrefix(Topic(topic)) + Channel(c) + "/" + ProducerHost("nsqd", h)
				ops = append(ops, clientv3.OpPut(key, e.values[h%len(e.values)]))
			}
		}
	}
	return ops
}

// ask is the closed loop of lookups.
func (e *etcdClients) ask(ctx context.Context, job *Range) Result {
	randoms := make([]*rand.Rand, len(e.clients))
	for i := range randoms {
		randoms[i] = rand.New(rand.NewPCG(uint64(i), uint64(job.Topics)))
	}
	options := []clientv3.OpOption{clientv3.WithPrefix()}
	if job.Serializable {
		options = append(options, clientv3.WithSerializable())
	}
	return inWindow(len(e.clients), job.Window, func(i int) error {
		topic := Topic(randoms[i].IntN(job.Topics))
		response, err := e.clients[i].Get(ctx, keyPrefix(topic), options...)
		if err == nil && len(response.Kvs) != job.Want {
			err = fmt.Errorf("%d keys of %s, want %d", len(response.Kvs), topic, job.Want)
		}
		return err
	})
}

// put is the closed loop of registrations.
func (e *etcdClients) put(ctx context.Context, job *Put) Result {
	next := make([]int, len(e.clients))
	return inWindow(len(e.clients), job.Window, func(i int) error {
		next[i]++
		topic, channel := freshNames(job.Fresh, i, next[i])
		_, err := e.clients[i].Put(ctx, keyPrefix(topic)+channel+"/"+strconv.Itoa(i), e.values[0])
		return err
	})
}

func (e *etcdClients) close() {
	for _, c := range e.clients {
		if c != nil {
			_ = c.Close()
		}
	}
}
