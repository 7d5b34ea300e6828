package cache_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/cache"
	"github.com/doubletap-cdc/doubletap/keys"
)

// The primary, opened with any MySQL driver.
var primary *sql.DB

func Example() {
	schema, err := keys.Load("keys.yaml")
	if err != nil {
		log.Fatal(err)
	}
	c, err := cache.New(cache.Options{
		Redis: cache.Redis{Addrs: []string{"127.0.0.1:6379"}}, Schema: schema,
		Source: "shop", // source.name of the pipeline's configuration
		DB:     primary,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // at the end of the program

	ctx := context.Background()
	key, err := c.Key("item", 42)
	if err != nil {
		log.Fatal(err)
	}
	v, err := c.Get(ctx, key, time.Hour, func(ctx context.Context, q cache.Querier) ([]byte, error) {
		var name []byte
		err := q.QueryRowContext(ctx, "SELECT name FROM shop.item WHERE id = ?", 42).Scan(&name)
		return name, err // sql.ErrNoRows: that there is no row is cached
	})
	switch {
	case errors.Is(err, cache.ErrTooManyLoads):
		log.Print("answer 503: the cache is away, and the database is as busy as it may be")
	case err != nil:
		log.Fatal(err)
	case !v.Found:
		fmt.Println("there is no such item")
	default:
		fmt.Printf("%s\n", v.Data)
	}
}

// client is made as in the example of the package.
var client *cache.Client

// A list of items, none of them older than what its reader has seen: his own write,
// or what other pages showed him.
func ExampleClient_GetManyAfter() {
	ctx := context.Background()
	var ids []any
	var list []cache.Key
	byID := map[int]cache.Key{}
	for _, id := range []int{42, 43, 44} {
		key, err := client.Key("item", id)
		if err != nil {
			log.Fatal(err)
		}
		ids, list, byID[id] = append(ids, id), append(list, key), key
	}
	// The middleware has put what the user has seen into the request's context.
	values, err := client.GetManyAfter(ctx, cache.FromContext(ctx), list, time.Hour,
		func(ctx context.Context, q cache.Querier, _ []cache.Key) (map[cache.Key][]byte, error) {
			rows, err := q.QueryContext(ctx, "SELECT id, name FROM shop.item WHERE id IN (?"+strings.Repeat(",?", len(ids)-1)+")", ids...)
			if err != nil {
				return nil, err
			}
			defer rows.Close() //nolint:errcheck // read to its end
			names := map[cache.Key][]byte{}
			for rows.Next() {
				var id int
				var name []byte
				if err := rows.Scan(&id, &name); err != nil {
					return nil, err
				}
				names[byID[id]] = name
			}
			return names, rows.Err()
		})
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range values {
		if err := cache.Remember(ctx, v.Token); err != nil { // before the answer's first byte
			log.Fatal(err)
		}
		fmt.Printf("%s\n", v.Data)
	}
}
