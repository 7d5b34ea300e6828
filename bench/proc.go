package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// cpuTime is the processor time that a process has used, in seconds. The kernel
// counts it in hundredths.
func cpuTime(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return cpuOf(string(text))
}

// cpuOf takes utime and stime from /proc/PID/stat, whose second field is the
// command in parentheses, with whatever characters it has.
func cpuOf(stat string) (float64, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc stat has %d fields", len(fields))
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100, errors.Join(err1, err2)
}

// peakRSS is a process's largest resident memory so far, in MB of 2^20 bytes.
// Not the rusage of wait: that starts with what the parent had at the fork.
func peakRSS(pid int) (float64, error) { return memoryOf(pid, "VmHWM") }

// resident is a process's resident memory now, in the same unit.
func resident(pid int) (float64, error) { return memoryOf(pid, "VmRSS") }

// memoryOf reads a field of /proc/PID/status, which the kernel gives in kB.
func memoryOf(pid int, field string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc status has no %s", field)
}
