package table

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

const server = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

func TestParseOwned(t *testing.T) {
	for text, want := range map[string]string{
		"":                   "",
		server + ":23#15":    server + ":23",
		server + ":4#21:5#2": server + ":4-5",
		server + ":tag:7#1:8#2:other:1#3,\n" + server + ":9#4#5": server + ":9:other:1:tag:7-8",
	} {
		got, err := parseOwned(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		set, err := gtid.Parse(want)
		if err != nil || !got.HasAll(set) || !set.HasAll(got) {
			t.Errorf("%q is read as %q, want %q, %v", text, got, want, err)
		}
	}
	if _, err := parseOwned("x:1#2"); err == nil {
		t.Error("no error for what is no GTID")
	}
}

// ownedConn is a session that knows gtid_owned only, or not even that.
type ownedConn struct {
	text string
	err  error
}

func (o ownedConn) Query(_ context.Context, _ string, row func([][]byte) error) error {
	if o.err != nil {
		return o.err
	}
	return row([][]byte{[]byte(o.text)})
}

func (ownedConn) Close() error { return nil }

// TestWrittenWaitsForWhatIsBeingCommitted: a set that lacks what a read may have
// seen is asked for again, but not for ever.
func TestWrittenWaitsForWhatIsBeingCommitted(t *testing.T) {
	for _, c := range []struct {
		name    string
		conn    ownedConn
		after   time.Duration // the transaction is in gtid_executed
		least   time.Duration
		most    time.Duration
		written string
	}{
		{"soon", ownedConn{text: server + ":8#3"}, 40 * time.Millisecond, 40 * time.Millisecond, time.Second, "1-8"},
		{"there already", ownedConn{text: server + ":8#3"}, 0, 0, 0, "1-8"},
		{"nothing under way", ownedConn{}, time.Hour, 0, 0, "1-7"},
		{"stalled", ownedConn{text: server + ":8#3"}, time.Hour, settleTime, settleTime + time.Second, "1-7"},
		{"MariaDB", ownedConn{err: &mysql.MyError{Code: codeUnknownVariable}}, time.Hour, 0, 0, "1-7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				d := Deps{
					Connect: func(context.Context) (Conn, error) { return c.conn, nil },
					View: func(context.Context) (pipeline.View, error) {
						text := server + ":1-7"
						if time.Since(begin) >= c.after {
							text = server + ":1-8"
						}
						set, err := gtid.Parse(text)
						return pipeline.View{Shown: set, Written: set}, err
					},
				}
				got, err := d.written(t.Context())
				if took := time.Since(begin); err != nil || got.String() != server+":"+c.written || took < c.least || took > c.most {
					t.Errorf("%v after %v, %v", got, took, err)
				}
			})
		})
	}
}

// TestSlowChunks: an index that finds too much is given up, and then chunks shrink.
func TestSlowChunks(t *testing.T) {
	spec := Spec{Where: "x = 1", Fixed: &Fixed{By: "few"}}
	r := &reader{spec: &spec, limit: 100, rows: &rowReader{key: &key{name: "PRIMARY"}, meets: -1}}
	r.rows.only(spec.Where, "few")
	r.took(4*slowChunk, 100)
	if r.rows.by != "few" || r.rows.found != "x = 1" || r.limit != 100 {
		t.Errorf("after %v: by %q, %d rows", 4*slowChunk, r.rows.by, r.limit)
	}
	r.took(6*slowChunk, 100)
	if r.rows.by != "PRIMARY" || r.rows.found != "" || r.rows.meets != 0 || r.rows.exprs[0] != "((x = 1) IS TRUE)" {
		t.Errorf("after %v: by %q, %+v", 6*slowChunk, r.rows.by, r.rows)
	}
	r.took(2*slowChunk, 100)
	if r.limit != 50 {
		t.Errorf("the next chunk has %d rows", r.limit)
	}
}
