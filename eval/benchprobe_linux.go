package eval

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processorTime returns the time that this program has run on all processors together.
func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// processorWait returns the time for which threads of a process (0: this one) were ready to run and had no processor, all together.
func processorWait(pid int) time.Duration {
	process := "self"
	if pid > 0 {
		process = strconv.Itoa(pid)
	}
	tasks, err := filepath.Glob("/proc/" + process + "/task/*/schedstat")
	if err != nil {
		return 0
	}
	sum := 0
	for _, name := range tasks {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		if f := strings.Fields(string(text)); len(f) > 1 {
			n, err := strconv.Atoi(f[1])
			if err == nil {
				sum += n
			}
		}
	}
	return time.Duration(sum)
}
