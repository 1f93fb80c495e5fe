package supervisor

import "syscall"

// childAttributes puts a child into a process group of its own, so that a
// terminal's interrupt reaches the parent alone, and lets the kernel kill it
// when the parent dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
