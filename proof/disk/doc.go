// Package disk breaks lookupd's promises about the disk: it cuts the power under
// running peers, damages files of stopped ones, and makes the disks of running
// ones full, dead, slow, lying or read-only. It works on real processes, real
// file systems and the real log; what clients were told is the only measure.
//
//   - PowerCuts: an acknowledged change is in every peer's answers afterwards,
//     whoever lost power, all peers at once included.
//   - Corruptions: a damaged file is refused by name, or it did not matter.
//   - Failures, and the Faults that it runs, which others may run too: a peer
//     whose disk fails stops with a message and never says OK to what is not
//     committed, the others go on, and it returns when the cause is gone.
//
// A disk is an ext4 image in memory, mounted in a mount namespace of this
// process alone: see Enter. What a process leaves behind when it dies, the
// kernel takes away with the namespace.
//
// What it does not do: it judges answers by what was acknowledged, not by a
// model of all operations, and does not keep the ledger of runs; the command
// around it does.
//
// All of it needs Linux, root and loop devices; parts need strace. Missing says
// what a machine lacks.
package disk
