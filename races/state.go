package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// settings decide what a run's numbers mean. A run is resumed with the same
// ones only.
type settings struct {
	Seed   uint64        `json:"seed"`
	Caches []string      `json:"caches"`
	Faults []string      `json:"faults"`
	Fill   time.Duration `json:"fill"`
	Lanes  int           `json:"lanes"`
	Keys   int           `json:"keys_per_lane"`
	Batch  int64         `json:"batch"`
	Kafka  bool          `json:"kafka"`
}

// state is a run so far, as it is kept in a file.
type state struct {
	Settings settings  `json:"settings"`
	Batches  []outcome `json:"batches"`
	// Replica is the measurement of first deletes while a replica stands still.
	Replica *stopped `json:"stopped_replica,omitempty"`
}

// resume reads a run's state; a file that is not there is a new run.
func resume(file string, s settings) (*state, error) {
	st := &state{Settings: s}
	text, err := os.ReadFile(file)
	if file == "" || errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, st); err != nil {
		return nil, fmt.Errorf("read the run's state from %s: %w", file, err)
	}
	had := st.Settings
	if had.Seed != s.Seed || !slices.Equal(had.Caches, s.Caches) || !slices.Equal(had.Faults, s.Faults) || had.Fill != s.Fill ||
		had.Lanes != s.Lanes || had.Keys != s.Keys || had.Batch != s.Batch || had.Kafka != s.Kafka {
		return nil, fmt.Errorf("%s is of a run with other settings, %+v: use the same, or another file", file, had)
	}
	return st, nil
}

// save replaces the file.
func (st *state) save(file string) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(st, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func (st *state) races() (n int64) {
	for _, t := range st.totals("") {
		n += t.Races
	}
	return n
}

func (st *state) seconds() (s float64) {
	for _, o := range st.Batches {
		s += o.Seconds
	}
	return s
}

func (st *state) kills() (n int64) {
	for _, o := range st.Batches {
		n += o.Kills
	}
	return n
}

// totals adds up the batches of one fault, or of all.
func (st *state) totals(fault string) map[string]tally {
	all := map[string]tally{}
	for _, o := range st.Batches {
		if fault != "" && o.Fault != fault {
			continue
		}
		for name, t := range o.Caches {
			all[name] = all[name].plus(t, 1)
		}
	}
	return all
}
