//go:build !purego

package kernel

import (
	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// hasTiles reports whether the processor has AMX for bf16 and the system lets the process use it: Linux gives the tiles' state to a process
// that asks for it.
func hasTiles() bool {
	if !cpu.X86.HasAMXTile || !cpu.X86.HasAMXBF16 {
		return false
	}
	const requestPermission, tileData = 0x1023, 18 // ARCH_REQ_XCOMP_PERM and XFEATURE_XTILEDATA
	_, _, err := unix.RawSyscall(unix.SYS_ARCH_PRCTL, requestPermission, tileData, 0)
	return err == 0
}
