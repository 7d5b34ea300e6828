package wire

import (
	"errors"
	"fmt"
	"time"

	"github.com/doubletap-cdc/doubletap/config"
	"github.com/doubletap-cdc/doubletap/keys"
)

// load reads the configuration and the key schema. The error lists every problem
// of both, and where they contradict each other; each says in which file it is.
func load(path string) (*config.Config, *keys.Schema, error) {
	c, err := config.Load(path)
	if c == nil || c.Keys == "" {
		return nil, nil, err
	}
	errs := []error{err}
	schema, err := keys.Load(c.Keys)
	if err != nil {
		return nil, nil, errors.Join(append(errs, err)...)
	}
	if err := schema.Protect(c.Redis.Protect); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, checkFills(c, schema)...)
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	return c, schema, nil
}

// bound is a time that the fill of a rule must not exceed.
type bound struct {
	setting string
	limit   time.Duration
	why     string
}

// checkFills compares the rules that have a fill of their own with the times of
// the configuration, as the configuration compares its own.
func checkFills(c *config.Config, schema *keys.Schema) (errs []error) {
	bounds := []bound{
		{"second_delete.fallback", c.SecondDelete.Fallback, "which takes its place where no server can be asked"},
		{"second_delete.max_wait", c.SecondDelete.MaxWait - 1, "after which a reader is no longer waited for"},
	}
	if k := c.Log.Kafka; k != nil {
		bounds = append(bounds, bound{"log.kafka.retention", k.Retention - 1, "after which events are gone from the log"})
	}
	if e := c.Log.Embedded; e != nil {
		bounds = append(bounds, bound{"log.embedded.retain", e.Retain - 1, "after which events are gone from the log"})
	}
	for _, r := range schema.Rules() {
		for _, b := range bounds {
			if fill, _ := r.Fill(); fill > b.limit {
				errs = append(errs, fmt.Errorf("%s: rule %q: fill %v is too long for %s, %s: make that longer", r.At(), r.Name(), fill, b.setting, b.why))
			}
		}
	}
	return errs
}
