package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// EmbeddedConfig says where the embedded log is and how much it keeps.
type EmbeddedConfig struct {
	// Dir is the log's folder, made if it is missing. One process at a time.
	Dir string
	// Retain is how long records are kept that every consumer has passed, for
	// replay; at most RetainBytes of them. Records that a consumer still needs,
	// or that a replay has begun to read, are kept in any case. 0 means 24 hours
	// and 1 GiB.
	Retain      time.Duration
	RetainBytes int64
	// MemoryTail bounds the records in memory, in bytes: those not yet on disk
	// (half of it at most; Publish blocks then) and the newest ones that are, for
	// the second pass. 0 means 16 MiB.
	MemoryTail int64
	Logger     *slog.Logger // nil: silent
	Hooks      pipeline.Hooks
}

// A consumer that has stored no cursors for this long, and is not running, no
// longer holds records back.
const forgetConsumer = 7 * 24 * time.Hour

// ErrClosed is the reason why records were not stored, or not waited for.
var ErrClosed = errors.New("the log is closed")

// Embedded is a durable log in a folder of this machine, with one partition,
// for a tailer and invalidators in one process. Readers see records at once;
// done is called, and cursors pass them, once they are on disk.
type Embedded struct {
	config EmbeddedConfig
	logger *slog.Logger
	disk   *disk
	state  *state
	tail   *tail
	dead   *deadFile
	// prepared is apart from the log, and has a writer of its own.
	prepared *embeddedPrepared
	reads    recentReads // of its History

	mu       sync.Mutex
	running  map[string]bool // consumers
	closing  context.Context // ends when Close begins
	close    context.CancelFunc
	writer   sync.WaitGroup
	closeErr error
	once     sync.Once
}

// OpenEmbedded opens the log in a folder, or makes a new one, and starts
// writing. What a crash left half-written is dropped: those records were never
// acknowledged. A folder in use by another process is an error.
func OpenEmbedded(c EmbeddedConfig) (*Embedded, error) {
	c.Retain = cmp.Or(c.Retain, 24*time.Hour)
	c.RetainBytes = cmp.Or(c.RetainBytes, 1<<30)
	c.MemoryTail = cmp.Or(c.MemoryTail, 16<<20)
	e := &Embedded{config: c, logger: cmp.Or(c.Logger, slog.New(slog.DiscardHandler)), running: map[string]bool{}}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the log: make its folder: %w", err)
	}
	var err error
	if e.state, err = openState(c.Dir); err != nil {
		return nil, err
	}
	if err := e.open(); err != nil {
		return nil, errors.Join(err, e.release())
	}
	e.closing, e.close = context.WithCancel(context.Background())
	e.writer.Go(e.write)
	e.writer.Go(e.prepared.write)
	return e, nil
}

func (e *Embedded) open() (err error) {
	if e.disk, err = openDisk(e.config.Dir, e.logger); err != nil {
		return fmt.Errorf("open the log in %s: %w", e.config.Dir, err)
	}
	if e.dead, err = openDeadFile(filepath.Join(e.config.Dir, "dead.jsonl")); err != nil {
		return err
	}
	if err := e.openPrepared(); err != nil {
		return err
	}
	start, end := e.disk.bounds()
	lost, err := e.state.check(end)
	if err != nil {
		return fmt.Errorf("open the log in %s: %w", e.config.Dir, err)
	}
	if lost != "" {
		e.logger.Error("the log is damaged: everything will be invalidated", "reason", lost, "dir", e.config.Dir)
	}
	e.logger.Info("log opened", "dir", e.config.Dir, "start", start, "end", end)
	e.tail = newTail(end, e.config.MemoryTail)
	return nil
}

// release closes the files.
func (e *Embedded) release() error {
	var err error
	if e.dead != nil {
		err = e.dead.close()
	}
	if e.disk != nil {
		err = errors.Join(err, e.disk.close())
	}
	if e.prepared != nil {
		err = errors.Join(err, e.prepared.disk.close())
	}
	return errors.Join(err, e.state.close())
}

// Close writes what was accepted and closes the files. Where that cannot be
// written at once, its done functions get ErrClosed. Consumers must have
// returned. Calling it again returns the same.
func (e *Embedded) Close() error {
	e.once.Do(func() {
		e.tail.close()
		e.prepared.tail.close()
		e.close()
		e.writer.Wait()
		e.closeErr = e.release()
	})
	return e.closeErr
}

// write is the only goroutine that appends: it takes all that has been
// published since its last write, and makes it durable with one sync.
func (e *Embedded) write() {
	for {
		batch, base, ok := e.tail.unsynced(e.config.MemoryTail)
		if !ok {
			return
		}
		if err := e.writeBatch(e.disk, base, batch); err != nil {
			e.tail.fail(fmt.Errorf("%w: %w", ErrClosed, err))
			return
		}
		e.tail.synced(len(batch))
		e.retain()
	}
}

// writeBatch tries until the records are durable, or the log is closed.
func (e *Embedded) writeBatch(d *disk, base int64, batch [][]byte) error {
	for attempt := 1; ; attempt++ {
		err := d.append(base, batch)
		if err == nil {
			if attempt > 1 {
				e.logger.Info("the log can be written again", "attempts", attempt)
			}
			return nil
		}
		if e.closing.Err() != nil {
			return err
		}
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("%w; free some space there, and the log goes on by itself", err)
		}
		wait := backoff(attempt)
		reportRetry(e.config.Hooks, e.logger, "write the log", attempt, err, wait)
		pause(e.closing, wait)
	}
}

func (e *Embedded) retain() {
	e.mu.Lock()
	running := make([]string, 0, len(e.running))
	for name := range e.running {
		running = append(running, name)
	}
	e.mu.Unlock()
	low, err := e.state.lowest(running, forgetConsumer)
	if err == nil {
		err = e.disk.dropBelow(min(low, e.reads.lowest(time.Now())), e.config.Retain, e.config.RetainBytes)
	}
	if err != nil {
		e.logger.Warn("old records could not be dropped", "err", err)
	}
}

// Bounds returns the oldest offset that can be read and the one after the
// newest record that is on disk.
func (e *Embedded) Bounds() (start, end int64) { return e.disk.bounds() }

// ReadAt returns records that are on disk, from an offset on, up to about 1 MiB;
// none at the end. A *pipeline.LogGapError says where the log goes on. For replay.
func (e *Embedded) ReadAt(from int64) ([]pipeline.Message, error) {
	if _, end := e.disk.bounds(); from == end {
		return nil, nil
	}
	return e.disk.read(from, fetchBytes)
}

// Backlog returns how many records the stored cursors of a consumer are behind
// the end, for each pass, as [Kafka.Backlog] does it.
func (e *Embedded) Backlog(ctx context.Context, consumer string) (first, second int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	stored, ok, err := get[storedCursors](e.state, cursorsBucket, consumer)
	if err != nil {
		return 0, 0, fmt.Errorf("look how far consumer %q is behind in the log in %s: %w", consumer, e.config.Dir, err)
	}
	start, end := e.disk.bounds()
	c := pipeline.Cursors{First: stored.First, Second: stored.Second, Marks: stored.Marks}
	if ok && (stored.Incarnation != e.state.incarnation || stored.First > end || stored.Second > end) {
		c = unfit
	}
	first, second = behind(c, start, end)
	return first, second, nil
}

// Publisher returns the log's publisher. It is safe for concurrent use.
func (e *Embedded) Publisher() pipeline.Publisher { return embeddedPublisher{e} }

type embeddedPublisher struct{ e *Embedded }

// Partitions implements pipeline.Publisher.
func (p embeddedPublisher) Partitions() int { return 1 }

// Publish implements pipeline.Publisher. done runs on the goroutine that
// writes: it must be quick.
func (p embeddedPublisher) Publish(ctx context.Context, records []pipeline.Record, done func(error)) error {
	for _, r := range records {
		if r.Partition != 0 {
			return fmt.Errorf("publish to partition %d: an embedded log has partition 0 only", r.Partition)
		}
	}
	return p.e.tail.add(ctx, records, done)
}
