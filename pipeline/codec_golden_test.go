package pipeline

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
)

var update = flag.Bool("update", false, "write the golden files anew")

const goldenGTID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

var goldenAt = time.UnixMicro(1_722_500_000_123_456)

// golden is one event for each form that a reader has to know.
var golden = map[string]*Event{
	"changes": {
		Kind: KindChanges, Source: "shop", GTID: goldenGTID + ":23", Seq: 0, CommittedAt: goldenAt, Schema: "8f2b1c3d4e5f6071",
		Tables: []TableRows{
			{DB: "shop", Table: "item", Columns: []string{"id", "category", "price"}, Rows: []Row{
				{After: []keys.Value{number("42"), text("tea"), number("9.90")}},
				{Before: []keys.Value{number("43"), text("tea"), number("1.50")}, After: []keys.Value{number("43"), text("café \"noir\""), number("2.00")}},
				{Before: []keys.Value{number("44"), null, number("0.00")}},
			}},
			{DB: "shop", Table: "orders", Columns: []string{"id", "user_id"}, Rows: []Row{
				{Before: []keys.Value{number("7"), absent}, After: []keys.Value{absent, number("18446744073709551615")}},
			}},
		},
	},
	"no-columns": {
		Kind: KindChanges, Source: "shop", GTID: goldenGTID + ":24", Seq: 3, Schema: "8f2b1c3d4e5f6071",
		Tables: []TableRows{{DB: "shop", Table: "settings", Rows: []Row{{Before: []keys.Value{}, After: []keys.Value{}}}}},
	},
	"invalidate": {
		Kind: KindInvalidate, Source: "shop", GTID: goldenGTID + ":25", Seq: 0, CommittedAt: goldenAt, Schema: "8f2b1c3d4e5f6071",
		Scopes: []Scope{{DB: "shop", Table: "item"}, {DB: "shop", Table: "cart_*"}}, Reason: "TRUNCATE TABLE",
	},
	"everything": {
		Kind: KindInvalidate, Source: "shop", GTID: goldenGTID + ":1-25", Schema: "8f2b1c3d4e5f6071",
		Scopes: []Scope{Everything}, Reason: "first start",
	},
	"keys": {
		Kind: KindKeys, Source: "shop", GTID: goldenGTID + ":1-25", Seq: 1, Schema: "8f2b1c3d4e5f6071",
		Keys: []string{"item:42", "user:café:cart"}, Patterns: []string{"old:item:*"}, Reason: "a replay of a list of keys",
	},
	"replayed": {
		Kind: KindChanges, Source: "shop", GTID: goldenGTID + ":1-25", Schema: "8f2b1c3d4e5f6071", KeysBy: "1f0e2d3c4b5a6978",
		Tables: []TableRows{{DB: "shop", Table: "item", Columns: []string{"id"}, Rows: []Row{{After: []keys.Value{number("42")}}}}},
	},
	"progress": {
		Kind: KindProgress, Source: "shop", GTID: goldenGTID + ":1-25", Schema: "8f2b1c3d4e5f6071",
		Partition: 3, Partitions: 8,
	},
}

func TestGoldenEvents(t *testing.T) {
	files, err := filepath.Glob("testdata/events/*.json")
	if err != nil || !*update && len(files) != len(golden) {
		t.Errorf("%d golden files, want %d (%v)", len(files), len(golden), err)
	}
	for name, e := range golden {
		e.Version = Version
		file := filepath.Join("testdata/events", name+".json")
		got := append(encode(t, e), '\n')
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s: wrote\n%s, the file says\n%s; records in the log are of the file's form", name, got, want)
		}
		back, err := DecodeEvent(want)
		if err != nil || !sameEvent(back, e) {
			t.Errorf("%s: read\n%+v, %v, want\n%+v", name, back, err, e)
		}
	}
}

// The examples in the description of the format are the golden files.
func TestDocumentedEvents(t *testing.T) {
	doc, err := os.ReadFile("../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range golden {
		example, err := os.ReadFile(filepath.Join("testdata/events", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(doc), "\n```json\n"+string(example)+"```\n") {
			t.Errorf("docs/events.md does not show %s.json as it is:\n%s", name, example)
		}
	}
}
