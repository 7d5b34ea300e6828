package deleter

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Observe returns a pipeline.Deleter that deletes nothing: Delete only checks the
// keys against the protected globs, and DeletePatterns counts the keys that
// match, at the same limited rate. It shares r's connection.
func (r *Redis) Observe() pipeline.Deleter { return observer{r} }

type observer struct{ r *Redis }

func (o observer) Delete(ctx context.Context, keys []string) error {
	o.r.withoutProtected(keys)
	return ctx.Err()
}

func (o observer) DeletePatterns(ctx context.Context, patterns []string) (int, error) {
	return o.r.sweep(ctx, patterns, func(_ context.Context, _ redis.UniversalClient, keys []string) (int, error) {
		return len(keys), nil
	})
}
