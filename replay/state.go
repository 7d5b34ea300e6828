package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Job is what is replayed, as the State keeps it: all that a later process needs
// in order to go on.
type Job struct {
	// Kind is the kind of the source: "log", "binlog", "table", "keys", "dead".
	Kind string `json:"kind"`
	// Given is the source's Spec as the arguments said it; Fixed is Plan.Fixed, by
	// which it is opened again.
	Given json.RawMessage `json:"given,omitempty"`
	Fixed json.RawMessage `json:"fixed"`
	// Settings is what else must stay as it is: the target, the schemas' files. It
	// is the command's own.
	Settings json.RawMessage `json:"settings,omitempty"`
	// Schema and Old are the hashes of the schemas; Old is "" without one.
	Schema string   `json:"schema"`
	Old    string   `json:"old_schema,omitempty"`
	Args   []string `json:"args,omitempty"` // for people
	What   []string `json:"what,omitempty"` // Plan.What, for people
	Rows   int64    `json:"rows"`           // Plan.Rows
}

// Phase is how far a replay is.
type Phase string

// The phases, in order.
const (
	Reading  Phase = "reading"  // chunks are read and published
	Draining Phase = "draining" // everything is published; the passes are at work
	Done     Phase = "done"
)

// State is a replay's place, durable in a folder. While a State is open no other
// process can open the folder's. It belongs to one goroutine.
type State struct {
	dir   string
	lock  *flock.Flock
	write func(path string, data []byte) error // replaced by tests
	stored
}

// stored is the content of state.json.
type stored struct {
	Version int       `json:"version"`
	Job     Job       `json:"job"`
	Started time.Time `json:"started"`
	Phase   Phase     `json:"phase"`
	Cursor  Cursor    `json:"cursor"`
	// Open says that a process is at work, or ended without leave: a chunk behind
	// Cursor may be in the log.
	Open   bool   `json:"open"`
	Counts Counts `json:"counts"`
	Owed   owed   `json:"owed"` // patterns of the old schema
}

// Counts is what was done so far, by all processes of a replay.
type Counts struct {
	Rows    int64   `json:"rows"`
	Keys    int64   `json:"keys"` // distinct within a chunk
	Chunks  int64   `json:"chunks"`
	Redone  int64   `json:"chunks_redone"` // at most: processes that ended without leave
	Records int64   `json:"records"`
	Bytes   int64   `json:"bytes"`
	Done    float64 `json:"done"` // share of the source; negative if unknown
	Seconds float64 `json:"seconds"`
	// Paced is for how long chunks were held back, in seconds by reason.
	Paced       map[string]float64 `json:"paced_seconds,omitempty"`
	DeadLetters int64              `json:"dead_letters"`
}

const (
	stateVersion = 1
	stateFile    = "state.json"
	lockFile     = "lock"
)

// InUseError says that another process has the folder's replay in hand.
type InUseError struct {
	Dir string
	PID string // "" if unknown
}

func (e *InUseError) Error() string {
	who := "another process"
	if e.PID != "" {
		who = "process " + e.PID
	}
	return fmt.Sprintf("%s is at work on the replay in %s: wait for it, or give this one a folder of its own", who, e.Dir)
}

// UnfinishedError says that the folder holds a replay that is not done.
type UnfinishedError struct {
	Dir     string
	Job     Job
	Started time.Time
	Phase   Phase
	Counts  Counts
}

func (e *UnfinishedError) Error() string {
	what := e.Job.Kind
	if len(e.Job.Args) > 0 {
		what = strings.Join(e.Job.Args, " ")
	}
	return fmt.Sprintf("%s holds a replay that is not done (%s, begun %s, %d rows so far): resume it, or remove the folder to give it up, or give this one a folder of its own",
		e.Dir, what, e.Started.UTC().Format(time.RFC3339), e.Counts.Rows)
}

// ErrNoReplay says that the folder holds no replay.
var ErrNoReplay = errors.New("no replay is stored here")

// CreateState begins a replay in a folder, which is made where it is missing; a
// replay in it that is done is forgotten. It returns an *InUseError or an
// *UnfinishedError where the folder is taken. The State is durable on return.
func CreateState(dir string, j Job) (*State, error) {
	s, err := openState(dir)
	if err != nil {
		return nil, err
	}
	had, err := s.load()
	switch {
	case err != nil:
	case had && s.stored.Phase != Done:
		err = &UnfinishedError{Dir: dir, Job: s.stored.Job, Started: s.Started, Phase: s.stored.Phase, Counts: s.stored.Counts}
	default:
		s.stored = stored{Version: stateVersion, Job: j, Started: time.Now().UTC().Truncate(time.Second), Phase: Reading}
		if j.Rows < 0 {
			s.stored.Counts.Done = -1
		}
		err = s.store()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// ResumeState opens the replay that a folder holds. It returns an *InUseError, or
// one that wraps ErrNoReplay. A replay that is done is opened too.
func ResumeState(dir string) (*State, error) {
	if _, err := os.Stat(filepath.Join(dir, stateFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("resume from %s: %w", dir, ErrNoReplay)
	}
	s, err := openState(dir)
	if err != nil {
		return nil, err
	}
	had, err := s.load()
	if err == nil && !had {
		err = fmt.Errorf("resume from %s: %w", dir, ErrNoReplay)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// load reads state.json; had is false where there is none.
func (s *State) load() (had bool, err error) {
	path := filepath.Join(s.dir, stateFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the replay's state: %w", err)
	}
	// The version is read first: the rest may have another form.
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return false, fmt.Errorf("read the replay's state %s: %w; remove the folder to begin anew", path, err)
	}
	if v.Version != stateVersion {
		return false, fmt.Errorf("the replay's state %s has version %d, and this release reads version %d: use the release that wrote it, or remove the folder to begin anew",
			path, v.Version, stateVersion)
	}
	if err := json.Unmarshal(data, &s.stored); err != nil {
		return false, fmt.Errorf("read the replay's state %s: %w; remove the folder to begin anew", path, err)
	}
	return true, nil
}

// store makes the state durable.
func (s *State) store() error {
	data, err := json.MarshalIndent(&s.stored, "", "\t")
	if err != nil {
		return fmt.Errorf("write the replay's state: %w", err)
	}
	if err := s.write(filepath.Join(s.dir, stateFile), append(data, '\n')); err != nil {
		return fmt.Errorf("write the replay's state: %w", err)
	}
	return nil
}

// Dir returns the folder.
func (s *State) Dir() string { return s.dir }

// Job returns what is replayed.
func (s *State) Job() Job { return s.stored.Job }

// Phase returns how far the replay is.
func (s *State) Phase() Phase { return s.stored.Phase }

// Cursor returns where its source goes on.
func (s *State) Cursor() Cursor { return s.stored.Cursor }

// Counts returns what was done so far.
func (s *State) Counts() Counts { return s.stored.Counts }

// Close lets go of the folder. What was stored stays.
func (s *State) Close() error {
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("unlock the replay's folder: %w", err)
	}
	return nil
}
