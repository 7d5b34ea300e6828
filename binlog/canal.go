package binlog

import (
	"context"
	"errors"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

type canalSource struct {
	history
}

var _ pipeline.Source = (*canalSource)(nil)

// Run implements pipeline.Source.
func (c *canalSource) Run(ctx context.Context, from pipeline.Position, fn func(context.Context, pipeline.Batch) error) error {
	return errors.New("the canal driver is not built yet")
}
