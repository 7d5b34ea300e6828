package cache

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

const (
	serverA = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	serverB = "3e11fa47-71ca-11e1-9e33-c80aa9429563"
)

func set(t *testing.T, text string) gtid.Set {
	t.Helper()
	s, err := gtid.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func seen(t *testing.T, gtids string) Seen {
	t.Helper()
	s, err := NewSeen(gtids)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSeen(t *testing.T) {
	for _, text := range []string{"", serverA + ":1-5", serverA + ":1-5:7:red:3," + serverB + ":1", "0-1-100,2-3-4"} {
		s := seen(t, text)
		back, err := s.Set()
		if err != nil || back.String() != text {
			t.Errorf("%q: %q comes back as %q, %v", text, s, back, err)
		}
		if parsed, err := ParseSeen(string(s)); err != nil || parsed != s {
			t.Errorf("%q is parsed as %q, %v", s, parsed, err)
		}
		c := http.Cookie{Name: "x", Value: string(s)}
		if got := c.String(); got != "x="+string(s) {
			t.Errorf("as a cookie: %s", got)
		}
	}
}

func TestParseSeenRefuses(t *testing.T) {
	ok := string(seen(t, serverA+":1-500")) // its last character has bits to spare
	for why, text := range map[string]string{
		"no base64":              "a token",
		"a line break":           ok[:8] + "\n" + ok[8:],
		"a header of its own":    ok + "\r\nSet-Cookie: a=b",
		"padding":                ok + "=",
		"cut":                    ok[:len(ok)-4],
		"one character more":     ok + "A",
		"bits that mean nothing": ok[:len(ok)-1] + string(ok[len(ok)-1]+1),
		"the empty set":          "AQ",
		"too long":               strings.Repeat("A", MaxSeen+1),
	} {
		if s, err := ParseSeen(text); !errors.Is(err, ErrSeen) {
			set, _ := s.Set()
			t.Errorf("%s: %q is taken as %q, %v", why, text, set, err)
		}
	}
}

func TestMerge(t *testing.T) {
	all, err := Merge("", seen(t, serverA+":1-5"), seen(t, serverA+":4-9,"+serverB+":2"), seen(t, "0-1-3"))
	if want := seen(t, "0-1-3,"+serverA+":1-9,"+serverB+":2"); err != nil || all != want {
		t.Errorf("merged: %q, %v; want %q", all, err, want)
	}
	if none, err := Merge(); none != "" || err != nil {
		t.Errorf("nothing merged: %q, %v", none, err)
	}
	if _, err := Merge(all, "!"); !errors.Is(err, ErrSeen) {
		t.Errorf("with a bad one: %v", err)
	}
}

// TestMaxSeen: what the comment of MaxSeen says has room.
func TestMaxSeen(t *testing.T) {
	var servers, holes strings.Builder
	for i := range 90 {
		fmt.Fprintf(&servers, "%08x-71ca-11e1-9e33-c80aa9429562:1-%d,", i, 1_000_000_000)
	}
	for i := range 1000 {
		fmt.Fprintf(&holes, ":%d-%d", 1_000_000_000+i*100, 1_000_000_000+i*100+50)
	}
	for what, text := range map[string]string{"90 servers": servers.String(), "1,000 holes": serverA + holes.String()} {
		s, err := NewSeen(text)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		t.Logf("%s: %d bytes", what, len(s))
		if _, err := NewSeen(text + "," + strings.ReplaceAll(text, "71ca", "71cb")); !errors.Is(err, ErrSeenTooLong) {
			t.Errorf("twice the %s: %v", what, err)
		}
	}
}

// TestToken: a token read after a commit holds it.
func TestToken(t *testing.T) {
	for name, server := range map[string]func(testing.TB, ...testenv.MySQLOptions) *testenv.Server{"mysql": envtest.MySQL, "mariadb": envtest.MariaDB} {
		t.Run(name, func(t *testing.T) {
			s := server(t)
			db, name := envtest.DB(t, s), envtest.Database(t, s)
			before, err := Token(t.Context(), db)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.ExecContext(t.Context(), "CREATE TABLE "+name+".a (id INT PRIMARY KEY)"); err != nil {
				t.Fatal(err)
			}
			conn, err := db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			after, err := Token(t.Context(), conn)
			if err != nil {
				t.Fatal(err)
			}
			was, err1 := before.Set()
			is, err2 := after.Set()
			if err1 != nil || err2 != nil || was.HasAll(is) || !is.HasAll(was) {
				t.Errorf("before the commit %s, after it %s, %v, %v", was, is, err1, err2)
			}
		})
	}
	t.Run("without GTIDs", func(t *testing.T) {
		s := envtest.MySQL(t, testenv.MySQLOptions{Args: []string{"--enforce-gtid-consistency=OFF", "--gtid-mode=OFF"}, Fast: true})
		if token, err := Token(t.Context(), envtest.DB(t, s)); err == nil {
			t.Errorf("token %q", token)
		}
	})
}
