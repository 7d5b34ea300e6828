package binlog

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestTranscodersAgreeWithServer converts every code of one and of two bytes in
// each character set, and compares with what the server makes of it.
func TestTranscodersAgreeWithServer(t *testing.T) {
	c := mustConnect(t, rootConfig(envtest.MySQL(t)))
	for charset, convert := range transcoders {
		if slices.Contains([]string{"utf8mb4", "utf8mb3", "utf32"}, charset) {
			continue
		}
		var codes []string
		for a := range 256 {
			codes = append(codes, fmt.Sprintf("%02x", a))
			for b := range 256 {
				if oneByte(charset) {
					break
				}
				codes = append(codes, fmt.Sprintf("%02x%02x", a, b))
			}
		}
		bad, tried := 0, 0
		for chunk := range slices.Chunk(codes, 8192) {
			res, err := c.Execute("SELECT c, HEX(CONVERT(CONVERT(UNHEX(c) USING " + charset + ") USING utf8mb4)), HEX(CONVERT(UNHEX(c) USING " + charset + ")) FROM JSON_TABLE('[\"" +
				strings.Join(chunk, `","`) + "\"]', '$[*]' COLUMNS (c VARCHAR(9) PATH '$')) AS t")
			if err != nil {
				t.Fatalf("%s: %v", charset, err)
			}
			rows, err := rowsOf(res)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				src, _ := hex.DecodeString(r[0])
				got, ok := convert(nil, src)
				want := strings.ToLower(r[1])
				if !strings.EqualFold(r[2], r[0]) || strings.Contains(want, "3f") && !strings.Contains(r[0], "3f") {
					continue // not text for the server
				}
				if !ok {
					continue // nor for us: in doubt, which is safe
				}
				tried++
				if hex.EncodeToString(got) != want {
					if bad++; bad <= 5 {
						t.Errorf("%s: %s is %x, the server has %s", charset, r[0], got, want)
					}
				}
			}
		}
		if tried == 0 {
			t.Errorf("%s: nothing was compared", charset)
		}
		t.Logf("%s: %d codes compared, %d differ", charset, tried, bad)
	}
}

func oneByte(charset string) bool {
	return !slices.Contains([]string{"ucs2", "utf16", "utf16le", "gbk", "euckr", "cp932"}, charset)
}

// TestCollationsAgreeWithServer: every collation of the server has the character
// set that we think, or none that we know.
func TestCollationsAgreeWithServer(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			c := mustConnect(t, rootConfig(f.start(t)))
			sql := "SELECT id, character_set_name FROM information_schema.collations"
			if f.name == "mariadb" {
				sql = "SELECT id, character_set_name FROM information_schema.collation_character_set_applicability"
			}
			res, err := c.Execute(sql)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := rowsOf(res)
			if err != nil {
				t.Fatal(err)
			}
			known := 0
			for _, r := range rows {
				var id uint64
				if _, err := fmt.Sscan(r[0], &id); err != nil {
					t.Fatal(err)
				}
				got := charsetOf(id)
				if r[1] == "utf8" {
					r[1] = "utf8mb3"
				}
				if got == "" && !charsetKnown(r[1]) || r[1] == "binary" {
					continue
				}
				if known++; got != r[1] {
					t.Errorf("collation %d is of %s, we have %q", id, r[1], got)
				}
			}
			t.Logf("%d of %d collations known", known, len(rows))
		})
	}
}
