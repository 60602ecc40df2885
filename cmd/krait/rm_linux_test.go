package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pseudoTerminal returns the two ends of one.
func pseudoTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	return master, terminal
}

// TestRemoveAsks asks where there is a terminal to answer.
func TestRemoveAsks(t *testing.T) {
	dir := home(t)
	h := newHub(t, map[string]string{"org/stories": dir + "/teacher"})
	hubEnv(t, h)
	must(t, dir, "pull", "org/stories")
	for _, c := range []struct {
		typed, args, want string
		status            int
	}{
		{"n\n", "rm org/stories", "krait: remove org/stories, 1.1 MiB? [y/N] krait: nothing was removed\n", 1},
		{"\n", "rm org/stories", "krait: remove org/stories, 1.1 MiB? [y/N] krait: nothing was removed\n", 1},
		{"y\n", "rm org/stories --quiet", "krait: remove org/stories, 1.1 MiB? [y/N] ", 0},
		{"", "rm --yes org/stories", "krait: org/stories is not in the cache", 1},
	} {
		master, terminal := pseudoTerminal(t)
		if _, err := master.WriteString(c.typed); err != nil {
			t.Fatal(err)
		}
		cmd := command(dir, strings.Fields(c.args)...)
		cmd.Stdin = terminal
		if r := finish(t, cmd); r.status != c.status || !strings.HasPrefix(r.errors, c.want) {
			t.Errorf("%q: %+v, want %q", c.typed, r, c.want)
		}
	}
}
