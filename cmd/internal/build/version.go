// Package build says what this build is.
package build

// released is the version of this source.
const released = "0.1.0"

// Version is that of lookupd and lookupctl, in semver: nsqd and nsqadmin compare
// it. It is a variable so that a build can have another one, as tests of upgrades do:
//
//	go build -ldflags "-X github.com/lookupd/lookupd/cmd/internal/build.Version=0.2.0" ./cmd/lookupd
var Version = released
