package wire

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/doubletap-cdc/doubletap/admin"
	"github.com/doubletap-cdc/doubletap/config"
	"github.com/doubletap-cdc/doubletap/deleter"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// App is what every command has once its configuration is read.
type App struct {
	Config *config.Config
	Schema *keys.Schema
	Log    *slog.Logger
	Hooks  pipeline.Hooks
	Ready  *admin.Ready

	path        string         // of the configuration
	replayHooks pipeline.Hooks // of what is replayed

	watching   atomic.Pointer[watching]      // once the readers are watched
	redis      atomic.Pointer[deleter.Redis] // once deletes are made
	openLog    atomic.Pointer[admin.OpenLog] // once an embedded log is open
	registry   *prometheus.Registry
	adminAddr  string
	adminExact bool   // it was given by -admin, so it must not be changed
	listening  string // the admin address as it is
}

// newApp reads the configuration and the key schema. The error lists every
// problem of both.
func newApp(o options, stderr io.Writer) (*App, error) {
	c, schema, err := load(o.config)
	if err != nil {
		return nil, err
	}
	a := &App{path: o.config, Config: c, Schema: schema, Log: newLogger(c, stderr), adminAddr: c.Admin.Listen}
	if o.admin != "" {
		a.adminAddr, a.adminExact = o.admin, true
	}
	a.observe()
	for _, w := range append(c.Warnings, schema.Warnings()...) {
		a.Log.Warn("configuration: " + w)
	}
	return a, nil
}

func newLogger(c *config.Config, w io.Writer) *slog.Logger {
	level := slog.LevelInfo
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil { // config has checked it
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: errorText}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// errorText logs an error as its message: slog's text handler prints it with %+v,
// which for the errors of go-mysql is a stack trace.
func errorText(_ []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok && err != nil {
		a.Value = slog.StringValue(err.Error())
	}
	return a
}

// retryStart calls fn until it succeeds or ctx ends. A server that goes away
// between the preflight and the start is waited for, as later on.
func retryStart[T any](ctx context.Context, a *App, op string, fn func(context.Context) (T, error)) (v T, err error) {
	err = pipeline.Retry(ctx, &a.Hooks, op, func(ctx context.Context) (err error) {
		v, err = fn(ctx)
		return err
	})
	return v, err
}
