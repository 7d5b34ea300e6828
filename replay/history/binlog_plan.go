package history

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// elsewhere says what covers a part of the history that is no longer there.
const elsewhere = "what they changed is covered by binlog files from an archive, or by a replay of the tables"

// binlogNow is what the source has at the time of Plan.
type binlogNow struct {
	executed, purged gtid.Set
	maria            bool
}

// Plan implements replay.Source. It fixes the end as the GTID set that is
// executed now, and the beginning as a position.
func (b *binlogSource) Plan(ctx context.Context) (replay.Plan, error) {
	now, err := b.now(ctx)
	if err != nil {
		return replay.Plan{}, err
	}
	p := replay.Plan{Rows: -1}
	b.spec.Executed = now.executed.String()
	if b.byTime() {
		err = b.planTime(ctx, now, &p)
	} else {
		err = b.planSet(ctx, now, &p)
	}
	if err != nil {
		return replay.Plan{}, err
	}
	n, err := b.ahead()
	if err != nil {
		return replay.Plan{}, err
	}
	if n == 0 {
		p.Rows = 0
		p.What = append(p.What, "there is no transaction to read")
	} else {
		p.What = append(p.What, fmt.Sprintf("about %d transactions to read, up to what is executed now", n))
	}
	if b.Notes != nil {
		notes, err := b.Notes(ctx)
		if err != nil {
			return replay.Plan{}, err
		}
		p.Warnings = append(p.Warnings, notes...)
	}
	p.Fixed, err = json.Marshal(b.spec)
	return p, err
}

// now asks what was executed after what was purged, so that a purge between the
// two shows when the range is read, not never.
func (b *binlogSource) now(ctx context.Context) (n binlogNow, err error) {
	for _, q := range []struct {
		spec string
		set  *gtid.Set
	}{{"earliest", &n.purged}, {"current", &n.executed}} {
		pos, err := b.Source.Start(ctx, q.spec)
		if err != nil {
			return n, fmt.Errorf("look at the binlog of %s: %w", b.Name, err)
		}
		if *q.set, err = gtid.Parse(b.named.GTIDSet(pos)); err != nil {
			return n, fmt.Errorf("look at the binlog of %s: %w", b.Name, err)
		}
	}
	n.maria = !n.executed.Empty() && !strings.Contains(n.executed.String(), ":")
	return n, nil
}

// ahead returns how many transactions lie between the beginning and the end.
func (b *binlogSource) ahead() (int64, error) {
	from, err := gtid.Parse(b.named.GTIDSet(b.spec.From))
	if err != nil {
		return 0, err
	}
	end, err := gtid.Parse(b.spec.Set)
	return from.Missing(end), err
}

func (b *binlogSource) planSet(ctx context.Context, now binlogNow, p *replay.Plan) error {
	set, after := parsed(b.spec.Set), parsed(b.spec.After) // OpenBinlog parsed both
	explicit := b.spec.Set != "" || b.spec.After != ""
	if b.spec.Set == "" {
		set = now.executed
	}
	if n := now.executed.Missing(set); n > 0 {
		if set.Intersect(now.executed).Empty() {
			return fmt.Errorf("none of the GTIDs in %q was executed by the source %s, which has %q", set, b.Name, now.executed)
		}
		p.Warnings = append(p.Warnings, fmt.Sprintf("%d of the transactions in %q were never executed by the source and are not replayed.", n, set))
	}
	end := set.Intersect(now.executed)
	want := end.Minus(after)
	if gone := want.Intersect(now.purged); explicit && !gone.Empty() {
		if now.purged.HasAll(want) {
			return &pipeline.GapError{Reason: fmt.Sprintf("all of %q was purged from the binlogs: %s", want, elsewhere)}
		}
		return &pipeline.GapError{Reason: fmt.Sprintf("%d of the transactions were purged from the binlogs (%q): %s; ask for %q to replay what is there",
			size(gone), gone, elsewhere, want.Minus(gone))}
	}
	switch {
	case !explicit:
		p.What = append(p.What, fmt.Sprintf("row changes of %s: everything that its binlog still has", b.Name))
	case b.spec.Set != "" && b.spec.After == "":
		p.What = append(p.What, fmt.Sprintf("row changes of %s: the transactions %s", b.Name, set))
	default:
		p.What = append(p.What, fmt.Sprintf("row changes of %s: the transactions after %s, up to %s", b.Name, after, set))
	}
	b.spec.Set = end.String()
	var err error
	b.spec.From, err = b.start(ctx, beginning(now, want, after))
	if err != nil || !explicit || want.Empty() {
		return err
	}
	return b.refuseHoles(ctx, want)
}

// refuseHoles fails where the range has a hole: a replay of what is there alone
// would look like all of it. want is empty for a range of time.
func (b *binlogSource) refuseHoles(ctx context.Context, want gtid.Set) error {
	if b.Holes == nil {
		return nil
	}
	holes, err := b.Holes(ctx, b.spec.From, want, b.spec.Until)
	if err != nil || len(holes) == 0 {
		return err
	}
	return &pipeline.GapError{Reason: strings.Join(holes, " ") + " To replay what is there, name the files of one side only, or give no range"}
}

// size is how many transactions are in a set.
func size(s gtid.Set) int64 { return gtid.Set{}.Missing(s) }

// beginning is the set to read from: MySQL sends whatever is not in it, in any
// order, so that only what is wanted comes; MariaDB sends what comes after it.
func beginning(now binlogNow, want, after gtid.Set) gtid.Set {
	from := after
	if !now.maria {
		from = now.executed.Minus(want)
	}
	from.Union(now.purged)
	return from
}

func (b *binlogSource) start(ctx context.Context, from gtid.Set) (pipeline.Position, error) {
	spec := from.String()
	if spec == "" {
		spec = "earliest"
	}
	pos, err := b.Source.Start(ctx, spec)
	if err != nil {
		return "", fmt.Errorf("begin to read the binlog of %s: %w", b.Name, err)
	}
	return pos, nil
}

func (b *binlogSource) planTime(ctx context.Context, now binlogNow, p *replay.Plan) error {
	b.spec.Set = b.spec.Executed
	from, until := "as far back as its binlog goes", "now"
	var err error
	if b.spec.Since.IsZero() {
		b.spec.From, err = b.start(ctx, now.purged)
	} else {
		from = "from " + stamp(b.spec.Since)
		var begun time.Time
		b.spec.From, begun, err = b.Since(ctx, b.spec.Since)
		if err == nil && begun.After(b.spec.Since) && !now.purged.Empty() {
			if !b.spec.Until.IsZero() && begun.After(b.spec.Until) {
				return &pipeline.GapError{Reason: fmt.Sprintf("the binlogs begin at %s only, behind the range: %s", stamp(begun), elsewhere)}
			}
			return &pipeline.GapError{Reason: fmt.Sprintf("the binlogs begin at %s, later than the range: %s; let the range begin then to replay what is there",
				stamp(begun), elsewhere)}
		}
	}
	if err != nil {
		return fmt.Errorf("find where the range of the binlog begins: %w", err)
	}
	if !b.spec.Until.IsZero() {
		until = stamp(b.spec.Until)
	}
	p.What = append(p.What, fmt.Sprintf("row changes of %s, %s until %s, by the server's clock", b.Name, from, until))
	if now.maria && !b.spec.Since.IsZero() {
		p.Warnings = append(p.Warnings, "MariaDB writes when the last statement of a transaction began, in whole seconds: let the range begin some minutes before what went wrong.")
	}
	return b.refuseHoles(ctx, gtid.Set{})
}

// parsed reads a set that was read before.
func parsed(text string) gtid.Set {
	set, _ := gtid.Parse(text)
	return set
}
