// Package target builds and starts what is measured, each as processes of its
// own: lookupd, nsqlookupd, etcd and a bare net/http handler.
package target
