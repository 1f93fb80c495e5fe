// Package e2e tests lookupd from outside: real lookupd, nsqd, nsqadmin and
// nsqlookupd processes on loopback, real go-nsq producers and consumers. It is a
// module of its own so that NSQ stays out of the daemon's go.mod.
//
// The tests know nothing of the daemon's packages: what they see is what its
// users see. TestMain builds the programs; every test starts and ends its own
// cluster. Waiting polls with a deadline that tells the last reason.
//
// Some need root and network namespaces, or a Docker engine. Where these are not
// to be had they are skipped, and listed at the end of the output.
//
//	go test ./...                      all of it, a few minutes
//	go test -short ./...               without the slow ones
//	go test -run Differential -seed 7  the random stream of an earlier failure
//	go test -race-daemon ./...         with lookupd under the race detector
//	LOOKUPD_FAULTS=require go test .   a test that cannot run here fails
package e2e
