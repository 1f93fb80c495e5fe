// Package build says what this build is.
package build

// Version is that of lookupd and lookupctl, in semver: nsqd and nsqadmin compare
// it.
const Version = "0.1.0"
