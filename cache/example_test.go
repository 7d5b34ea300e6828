package cache_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
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
