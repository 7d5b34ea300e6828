package cache

import (
	"context"

	"github.com/doubletap-cdc/doubletap/keys"
)

// trusted reports whether the invalidators vouch that the rule's deletes arrive in
// time. It is to be replaced together with this file.
func (c *Client) trusted(context.Context, *keys.Rule) bool { return true }
