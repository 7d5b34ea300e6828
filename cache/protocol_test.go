package cache

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

var update = flag.Bool("update", false, "write testdata/vectors.json")

// vectors is testdata/vectors.json: what an implementation in another language must
// write and read. Bytes are in hex.
type vectors struct {
	Leases  []leaseVector  `json:"leases"`
	Entries []entryVector  `json:"entries"`
	Foreign []string       `json:"foreign"`
	Scripts []scriptVector `json:"scripts"`
}

type leaseVector struct {
	Token string `json:"token"`
	Bytes string `json:"bytes"`
}

type entryVector struct {
	Found   bool   `json:"found"`
	Payload string `json:"payload"`
	Least   string `json:"least"` // GTID sets as the server writes them
	Most    string `json:"most"`
	Bytes   string `json:"bytes"`
}

type scriptVector struct {
	Name string `json:"name"`
	Text string `json:"text"`
	SHA1 string `json:"sha1"`
}

// TestVectors compares this implementation with the published vectors.
func TestVectors(t *testing.T) {
	const one, two = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-80:90:app:1-3,4e11fa47-71ca-11e1-9e33-c80aa9429562:5"
	v := vectors{
		Leases: []leaseVector{
			{Token: strings.Repeat("00", 16)}, {Token: "000102030405060708090a0b0c0d0e0f"}, {Token: strings.Repeat("ff", 16)},
		},
		Entries: []entryVector{
			{Found: true, Payload: hex.EncodeToString([]byte("hello"))},
			{Found: true, Payload: ""},
			{Found: true, Payload: "00647431" + "4c"},
			{Found: true, Payload: hex.EncodeToString([]byte("hello")), Least: one, Most: two},
			{Found: true, Payload: strings.Repeat("61", 300), Least: "0-1-100,1-2-3", Most: "0-1-101,1-2-3"},
			{Found: true, Payload: "61", Most: one},
			{Found: false},
			{Found: false, Least: one, Most: one},
		},
		Foreign: []string{
			"", hex.EncodeToString([]byte("hello")), "0064743156", "006474314c00", "006474314c" + strings.Repeat("00", 17),
			"006474325600", "006474315605", "0064743156ffffffffffffffffffff01", "00647431560109", "006474314e0061", "006474314d00",
		},
		Scripts: []scriptVector{
			{"store", storeScript.text, storeScript.hash}, {"abandon", abandonScript.text, abandonScript.hash},
		},
	}
	for i, l := range v.Leases {
		raw, err := hex.DecodeString(l.Token)
		if err != nil {
			t.Fatal(err)
		}
		b := token(raw).lease()
		if e := parseEntry(b); e.kind != leased || e.token != token(raw) {
			t.Errorf("lease %s is read as %+v", l.Token, e)
		}
		v.Leases[i].Bytes = hex.EncodeToString(b)
	}
	for i := range v.Entries {
		v.Entries[i].Bytes = v.Entries[i].bytes(t)
	}
	for _, f := range v.Foreign {
		if b, err := hex.DecodeString(f); err != nil || parseEntry(b).kind != foreign {
			t.Errorf("%s is not foreign (%v)", f, err)
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	const file = "testdata/vectors.json"
	if *update {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil { //nolint:gosec // a test's data
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || !bytes.Equal(want, out.Bytes()) {
		t.Errorf("%s differs from (%v; go test -update writes it)\n%s", file, err, out.Bytes())
	}
}

// bytes writes the entry, reads it back and compares.
func (v entryVector) bytes(t *testing.T) string {
	t.Helper()
	payload, err := hex.DecodeString(v.Payload)
	if err != nil {
		t.Fatal(err)
	}
	e := entry{kind: negative}
	if v.Found {
		e = entry{kind: valued, data: payload}
	}
	for text, set := range map[string]*gtid.Set{v.Least: &e.known.least, v.Most: &e.known.most} {
		if *set, err = gtid.Parse(text); err != nil {
			t.Fatal(err)
		}
	}
	if v.Least == v.Most {
		e.known.least = e.known.most
	}
	b, err := e.marshal()
	if err != nil {
		t.Fatal(err)
	}
	back := parseEntry(b)
	if back.kind != e.kind || !bytes.Equal(back.data, e.data) || back.known.least.String() != v.Least || back.known.most.String() != v.Most {
		t.Errorf("%+v is read back as %+v", v, back)
	}
	return hex.EncodeToString(b)
}

func FuzzEntry(f *testing.F) {
	f.Add(newToken().lease())
	f.Add([]byte("\x00dt1V\x00hello"))
	f.Add([]byte("\x00dt1N\x00"))
	f.Add([]byte("\x00dt1V\x02\x01\x01\x61"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := parseEntry(b)
		if e.kind != valued && e.kind != negative {
			return
		}
		out, err := e.marshal()
		if back := parseEntry(out); err != nil || back.kind != e.kind || !bytes.Equal(back.data, e.data) || back.known.least.String() != e.known.least.String() {
			t.Errorf("%q is read as %+v, written as %q (%v)", b, e, out, err)
		}
	})
}

// form is one way to say the same to a server (docs/cache-protocol.md).
type form struct {
	name  string
	needs string // the servers that must know it
	store func(key string, lease, value []byte) []any
	drop  func(key string, lease []byte) []any
}

var forms = []form{
	{
		name: "scripts", needs: "redis valkey",
		store: func(key string, lease, value []byte) []any {
			return []any{"eval", storeScript.text, 1, key, lease, value, 60_000}
		},
		drop: func(key string, lease []byte) []any { return []any{"eval", abandonScript.text, 1, key, lease} },
	},
	{
		name: "SET IFEQ and DELIFEQ", needs: "valkey",
		store: func(key string, lease, value []byte) []any {
			return []any{"set", key, value, "ifeq", lease, "px", 60_000}
		},
		drop: func(key string, lease []byte) []any { return []any{"delifeq", key, lease} },
	},
	{
		name: "SET IFEQ and DELEX", // Redis 8.4
		store: func(key string, lease, value []byte) []any {
			return []any{"set", key, value, "ifeq", lease, "px", 60_000}
		},
		drop: func(key string, lease []byte) []any { return []any{"delex", key, "ifeq", lease} },
	},
}

// TestForms runs each form that a server knows against the same cases, on keys whose
// leases the client takes, and whose values it then reads.
func TestForms(t *testing.T) {
	for server, s := range map[string]*testenv.Server{
		"redis":  envtest.Redis(t, testenv.RedisOptions{Memory: true, Next: true}),
		"valkey": envtest.Valkey(t),
	} {
		for _, f := range forms {
			t.Run(server+"/"+f.name, func(t *testing.T) {
				sh := newShelf(t)
				c, raw := sh.client(t, s.Addr), rdb(t, s)
				t.Logf("%s %s", server, s.Version())
				if err := raw.Do(t.Context(), f.drop("none", []byte("x"))...).Err(); err != nil && strings.Contains(err.Error(), "unknown command") && !strings.Contains(f.needs, server) {
					t.Skipf("%s %s: %v", server, s.Version(), err)
				}
				key := item(t, c, 1)
				value, _ := entry{kind: valued, data: []byte("theirs")}.marshal()
				other := newToken()
				take := func() token {
					raw.Del(t.Context(), key.String())
					tok := newToken()
					cmd := acquire(t.Context(), key, tok, time.Minute)
					c.run(t.Context(), cmd)
					if e, err := cmd.entry(); err != nil || e.kind != absent {
						t.Fatal(e, err)
					}
					return tok
				}
				for _, test := range []struct {
					name    string
					between func(token)
					holds   kind
				}{
					{"the lease holds", func(token) {}, valued},
					{"it was deleted", func(token) { raw.Del(t.Context(), key.String()) }, absent},
					{"another one has it", func(token) { raw.Set(t.Context(), key.String(), other.lease(), 0) }, leased},
					{"another type", func(token) { raw.Del(t.Context(), key.String()); raw.HSet(t.Context(), key.String(), "f", "v") }, foreign},
				} {
					tok := take()
					test.between(tok)
					_ = raw.Do(t.Context(), f.store(key.String(), tok.lease(), value)...).Err() // nil, 0 or WRONGTYPE where it holds not
					e, err := lookAt(t, raw, key)
					if err != nil || e.kind != test.holds || e.kind == valued && string(e.data) != "theirs" {
						t.Errorf("store, %s: the key holds %+v, %v", test.name, e, err)
					}
					tok = take()
					test.between(tok)
					_ = raw.Do(t.Context(), f.drop(key.String(), tok.lease())...).Err()
					holds := test.holds
					if holds == valued {
						holds = absent
					}
					if e, err := lookAt(t, raw, key); err != nil || e.kind != holds {
						t.Errorf("abandon, %s: the key holds %+v, %v", test.name, e, err)
					}
				}
				tok := take()
				if err := raw.Do(t.Context(), f.store(key.String(), tok.lease(), value)...).Err(); err != nil {
					t.Error(err)
				}
				expect(t, c, key, sh.name(1), "theirs")
			})
		}
	}
}

func lookAt(t *testing.T, c *redis.Client, key Key) (entry, error) {
	t.Helper()
	cmd := get(t.Context(), key)
	_ = c.Process(t.Context(), cmd)
	return cmd.entry()
}
