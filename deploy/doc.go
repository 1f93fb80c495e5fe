// Package deploy has no code: its tests hold what lies in this folder, and the
// operators' documents, to the programs that they speak of.
//
// It is a module of its own, so that Prometheus' parser and Kubernetes' types are
// no dependency of lookupd.
package deploy
