package cache

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
	"github.com/doubletap-cdc/doubletap/watermark"
)

// TestACL runs the client as a user who may do what docs/cache-protocol.md says, and
// nothing else.
func TestACL(t *testing.T) {
	doc, err := os.ReadFile("../docs/cache-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^An ACL needs .*?;`).FindString(string(doc))
	grants := regexp.MustCompile(`\+[a-z|]+`).FindAllString(line, -1)
	if len(grants) < 5 {
		t.Fatalf("the document grants %q", grants)
	}
	s, sh := envtest.Redis(t, testenv.RedisOptions{Memory: true}), newShelf(t)
	args := []any{"acl", "setuser", "app", "on", ">secret", "resetkeys", "~*:" + sh.table + ":*", "~doubletap:*", "-@all"}
	for _, g := range grants {
		args = append(args, g)
	}
	raw := rdb(t, s)
	if err := raw.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	c := sh.client(t, s.Addr, func(o *Options) { o.Redis.Username, o.Redis.Password = "app", "secret" })
	c.trust.answer.Store(nil)
	token, err := Token(t.Context(), sh.db)
	if err != nil {
		t.Fatal(err)
	}
	set, _ := token.Set()
	raw.HSet(t.Context(), watermark.SetsKey("shop"), "0", `{"partitions":1,"first":"`+set.String()+`","second":""}`)
	raw.Set(t.Context(), watermark.TrustKey("shop", 0), `{"untrusted":[]}`, time.Minute)
	if err := c.WaitInvalidated(t.Context(), token); err != nil {
		t.Error(err)
	}
	raw.Set(t.Context(), item(t, c, 1).String(), "foreign", 0)
	expect(t, c, item(t, c, 1), sh.name(1), "name 1")
	expect(t, c, item(t, c, 1), sh.name(1), "name 1")
	var asked []int
	if _, err := c.GetMany(t.Context(), []Key{item(t, c, 1), item(t, c, 2), item(t, c, 3)}, time.Minute, sh.names(&asked)); err != nil {
		t.Error(err)
	}
	counted(t, c, map[Event]int64{Foreign: 1, Miss: 3, Stored: 3, Hit: 2})
	log, err := raw.ACLLog(t.Context(), 10).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range log {
		t.Errorf("refused: %s of %s", l.Reason, strings.ToLower(l.Object))
	}
}
