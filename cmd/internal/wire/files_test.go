package wire

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const plain = `source: {name: shop, addr: "127.0.0.1:3306", user: cdc}
log: {embedded: {dir: data}}
redis: {addrs: ["127.0.0.1:6379"]}
keys: keys.yaml
`

// TestAllProblemsAtOnce: what is wrong with the configuration, with the key schema
// and between the two comes in one answer.
func TestAllProblemsAtOnce(t *testing.T) {
	const item = "version: 1\nkeys:\n  - {name: item, table: shop.item, key: 'item:{id}'}\n"
	for _, c := range []struct {
		name, config, schema string
		want                 []string // of each line the beginning; none where it can be used
	}{
		{"fine", plain, item, nil},
		{"both are wrong", strings.Replace(plain, "user: cdc", "", 1) + "mode: x\n", item + "  - {name: item}\n",
			[]string{"doubletap.yaml:1: source.user: is needed", "doubletap.yaml:5: mode: \"x\"", "keys.yaml:4: rule \"item\": table", "keys.yaml:4: rule \"item\": key", "keys.yaml:4: rule \"item\": the name"}},
		{"protected", strings.Replace(plain, "]}", "], protect: ['item:*']}\nmode: x", 1), item,
			[]string{"doubletap.yaml:4: mode: \"x\"", "keys.yaml:3: rule \"item\": its keys"}},
		{"protection is wrong too", strings.Replace(plain, "]}", "], protect: ['item:*', '*']}", 1), item,
			[]string{"doubletap.yaml:3: redis.protect[1]: "}},
		{"no schema", plain + "mode: x\n", "", []string{"doubletap.yaml:4: keys: the key schema cannot be read", "doubletap.yaml:5: mode: \"x\""}},
		{"no YAML", "- x\n", item, []string{"doubletap.yaml:1: the file is not a mapping"}},
		{"long fills", plain, item + "  - {name: slow, table: shop.slow, key: 'slow:{id}', fill: 40s}\n  - {name: slower, table: shop.slow, key: 'slower:{id}', fill: 48h}\n",
			[]string{
				"keys.yaml:4: rule \"slow\": fill 40s is too long for second_delete.fallback, which",
				"keys.yaml:5: rule \"slower\": fill 48h0m0s is too long for second_delete.fallback, which",
				"keys.yaml:5: rule \"slower\": fill 48h0m0s is too long for second_delete.max_wait, after",
				"keys.yaml:5: rule \"slower\": fill 48h0m0s is too long for log.embedded.retain, after",
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"doubletap.yaml": c.config, "keys.yaml": c.schema} {
				if text == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, schema, err := load(filepath.Join(dir, "doubletap.yaml"))
			if len(c.want) == 0 {
				if err != nil || len(schema.Rules()) != 1 {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatal("no problem")
			}
			lines := strings.Split(strings.ReplaceAll(err.Error(), dir+"/", ""), "\n")
			if len(lines) != len(c.want) {
				t.Fatalf("%d problems, want %d:\n%s", len(lines), len(c.want), strings.Join(lines, "\n"))
			}
			for i, want := range c.want {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("got  %s\nwant %s", lines[i], want)
				}
			}
		})
	}
}
