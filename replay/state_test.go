package replay

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var tableJob = Job{
	Kind: "table", Given: json.RawMessage(`{"table":"shop.item","where":"id > 5"}`), Fixed: json.RawMessage(`{"table":"shop.item","last":"9"}`),
	Settings: json.RawMessage(`{"target":"topic"}`), Schema: "8f2b1c3d4e5f6071", Args: []string{"replay", "table", "shop.item"}, Rows: 10,
}

func TestStateSurvives(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "replay")
	s, err := CreateState(dir, tableJob)
	if err != nil {
		t.Fatal(err)
	}
	s.stored.Cursor, s.stored.Counts.Rows = `{"id":"4"}`, 4
	s.stored.Owed.Patterns = []string{"old:*"}
	if err := s.store(); err != nil {
		t.Fatal(err)
	}
	want := s.stored
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A crash while the file was replaced leaves the new one beside it.
	if err := os.WriteFile(filepath.Join(dir, stateFile+".tmp"), []byte(`{"vers`), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = ResumeState(dir); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if got, want := asJSON(t, s.stored), asJSON(t, want); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if s.Cursor() != `{"id":"4"}` || s.Phase() != Reading || s.Counts().Rows != 4 || s.Job().Kind != "table" || s.Dir() != dir {
		t.Errorf("%+v", s)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestStateLocked(t *testing.T) {
	dir := t.TempDir()
	s, err := CreateState(dir, tableJob)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ResumeState(dir)
	if inUse, ok := errors.AsType[*InUseError](err); !ok || inUse.PID == "" || !strings.Contains(err.Error(), "is at work on the replay in "+dir) {
		t.Errorf("resumed beside: %v", err)
	}
	if _, err = CreateState(dir, tableJob); err == nil || !strings.Contains(err.Error(), "is at work") {
		t.Errorf("created beside: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = ResumeState(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestStateTaken: a replay that is not done is not forgotten; one that is, is.
func TestStateTaken(t *testing.T) {
	dir := t.TempDir()
	s, err := CreateState(dir, tableJob)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = CreateState(dir, Job{Kind: "log"})
	if u, ok := errors.AsType[*UnfinishedError](err); !ok || u.Job.Kind != "table" || !strings.Contains(err.Error(), "not done (replay table shop.item, begun ") {
		t.Fatalf("another one: %v", err)
	}
	if s, err = ResumeState(dir); err != nil {
		t.Fatal(err)
	}
	s.stored.Phase = Done
	if err := s.store(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = CreateState(dir, Job{Kind: "log", Rows: -1}); err != nil {
		t.Fatal(err)
	}
	if s.Job().Kind != "log" || s.Phase() != Reading || s.Cursor() != "" || s.Counts().Done != -1 {
		t.Errorf("%+v", s.stored)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStateCheck(t *testing.T) {
	s := &State{stored: stored{Job: tableJob}}
	for _, c := range []struct {
		name string
		j    Job
		want string // in the error; "" for none
	}{
		{"nothing asked for", Job{}, ""},
		{"the same", Job{Kind: "table", Given: json.RawMessage(`{"table":"shop.item", "where":"id > 5"}`), Settings: tableJob.Settings, Schema: tableJob.Schema}, ""},
		{"another source", Job{Kind: "log", Given: json.RawMessage(`{}`)}, "the source was table and is log"},
		{"another range", Job{Kind: "table", Given: json.RawMessage(`{"table":"shop.cart"}`)}, `what is read was {"table":"shop.item","where":"id > 5"} and is {"table":"shop.cart"}`},
		{"another target", Job{Settings: json.RawMessage(`{"target":"redis"}`)}, `the set of options was {"target":"topic"} and is {"target":"redis"}`},
		{"another schema", Job{Schema: "0000"}, "the key schema's hash was 8f2b1c3d4e5f6071 and is 0000"},
		{"an old schema", Job{Old: "1111"}, "the old key schema's hash was none and is 1111"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := s.Check(c.j)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestStateUnreadable(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"newer", `{"version":2,"job":[]}`, "has version 2, and this release reads version 1"},
		{"garbage", `{"version":`, "remove the folder to begin anew"},
		{"other form", `{"version":1,"job":[]}`, "remove the folder to begin anew"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, open := range []func() (*State, error){
				func() (*State, error) { return ResumeState(dir) },
				func() (*State, error) { return CreateState(dir, tableJob) },
			} {
				if _, err := open(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v", err)
				}
			}
		})
	}
	if _, err := ResumeState(t.TempDir()); !errors.Is(err, ErrNoReplay) {
		t.Errorf("an empty folder: %v", err)
	}
	missing := filepath.Join(t.TempDir(), "no")
	if _, err := ResumeState(missing); !errors.Is(err, ErrNoReplay) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("asking for a replay made its folder")
	}
}
