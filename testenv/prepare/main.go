// Command prepare fetches every server that the tests use, and starts each once,
// so that a download shows its progress here, and a server that cannot start is
// reported once and not by every test.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/doubletap-cdc/doubletap/testenv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := prepare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "prepare the servers for the tests:", err)
		os.Exit(1)
	}
}

func prepare(ctx context.Context) (err error) {
	start := time.Now()
	mode, _, err := testenv.ModeFromEnv()
	if err != nil {
		return err
	}
	env, err := testenv.Open(ctx, testenv.Options{Mode: mode, Log: func(line string) { fmt.Println(line) }})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := env.Close(); err == nil {
			err = cerr
		}
	}()
	var g errgroup.Group
	for _, fetch := range []func() error{
		func() error { _, err := env.MySQL(ctx, testenv.MySQLOptions{}); return err },
		func() error { _, err := env.MariaDB(ctx, testenv.MySQLOptions{}); return err },
		func() error { _, err := env.Kafka(ctx, testenv.KafkaOptions{}); return err },
		func() error { _, err := env.Redis(ctx, testenv.RedisOptions{}); return err },
		func() error { _, err := env.Redis(ctx, testenv.RedisOptions{Next: true}); return err },
		func() error { _, err := env.Valkey(ctx, testenv.RedisOptions{}); return err },
	} {
		g.Go(fetch)
	}
	if err := g.Wait(); err != nil {
		return err
	}
	fmt.Printf("%s (ready after %s)\n", env.Describe(), time.Since(start).Round(time.Second))
	return nil
}
