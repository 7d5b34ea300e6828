package main

import (
	"os"
	"strconv"
	"syscall"
)

// niceness is that of a job in the background: live deletes on the same machine get
// the processor first.
const niceness = 10

// giveWay lowers the priority of this process. Linux keeps one for each thread, and
// a new thread has that of the one that made it (setpriority(2)), so it is to be
// called first of all. Where it is not allowed, the replay runs as it is.
func giveWay() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, tid, niceness)
		}
	}
}
