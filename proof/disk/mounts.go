package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// parentMounts names, to a process that has mounts of its own, the mount
// namespace of the one that it came from.
const parentMounts = "LOOKUPD_PROOF_PARENT_MOUNTS"

// ErrMissing: this machine lacks what a test needs. The message says what.
var ErrMissing = errors.New("needs")

// Enter replaces this process by one of the same program with the same
// arguments that has mounts of its own, unless it has. So it returns nil in a
// process with mounts of its own, and else an error, which wraps ErrMissing if
// this machine cannot have such a process. Call it first in main or TestMain.
func Enter() error {
	parent := os.Getenv(parentMounts)
	here, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return fmt.Errorf("%w a mount namespace: %w", ErrMissing, err)
	}
	if parent != "" && parent != here {
		return nil
	}
	if err := Missing(); err != nil {
		return err
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return fmt.Errorf("%w unshare: %w", ErrMissing, err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := append([]string{unshare, "--mount", "--propagation", "private", self}, os.Args[1:]...)
	return unix.Exec(unshare, args, append(os.Environ(), parentMounts+"="+here))
}

// Missing returns nil if this machine can have disks that lose power, and else
// an error that wraps ErrMissing.
func Missing() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w root", ErrMissing)
	}
	for _, program := range []string{"unshare", "mount", "umount", "mkfs.ext4"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w %s", ErrMissing, program)
		}
	}
	return tryMount()
}

// tryMount mounts an image where nobody sees it.
func tryMount() error {
	const try = `d=$(mktemp -d) && trap 'umount -l "$d"; rmdir "$d"' EXIT && mount -t tmpfs none "$d" && ` +
		`truncate -s 8M "$d/i" && mkfs.ext4 -q -F "$d/i" && mkdir "$d/m" && mount -o loop "$d/i" "$d/m" && umount "$d/m"`
	out, err := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", try).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w loop devices and ext4 (%w: %.200s)", ErrMissing, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// MissingStrace is Missing for what injects failures into a running peer.
func MissingStrace() error {
	if _, err := exec.LookPath("strace"); err != nil {
		return fmt.Errorf("%w strace", ErrMissing)
	}
	out, err := exec.Command("strace", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO", "true").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w strace that may trace and inject (%w: %.200s)", ErrMissing, err, strings.TrimSpace(string(out)))
	}
	return nil
}
