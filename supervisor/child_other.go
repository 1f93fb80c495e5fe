//go:build unix && !linux

package supervisor

import "syscall"

// childAttributes puts a child into a process group of its own, so that a
// terminal's interrupt reaches the parent alone. Here the kernel does not end
// children with their parent; Group.Close does.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
