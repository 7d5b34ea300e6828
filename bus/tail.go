package bus

import (
	"context"
	"sync"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// tail is the embedded log's newest records in memory: those not yet on disk,
// and before them as many as fit of those that are.
type tail struct {
	limit int64 // bytes

	mu      sync.Mutex
	records [][]byte
	base    int64 // offset of records[0]
	onDisk  int64 // offset after the last synced record
	bytes   int64 // of all records
	waiting int64 // of those not yet on disk
	calls   []publishCall
	closed  error

	grown notifier // records were added
	moved notifier // records were synced, or the tail was closed
}

// publishCall is a Publish that waits for its records to be on disk.
type publishCall struct {
	end  int64 // offset after its last record
	done func(error)
}

// recordOverhead is what a record costs in memory beside its data.
const recordOverhead = 48

// maxBatch bounds one group commit in bytes, so that done is not put off long.
const maxBatch = 4 << 20

func newTail(end, limit int64) *tail {
	return &tail{limit: limit, base: end, onDisk: end}
}

func (t *tail) end() int64 { return t.base + int64(len(t.records)) }

// next returns the offset of the next record.
func (t *tail) next() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end()
}

// add appends records once there is room, which it waits for until ctx ends.
func (t *tail) add(ctx context.Context, records []pipeline.Record, done func(error)) error {
	t.mu.Lock()
	for {
		if err := ctx.Err(); err != nil {
			t.mu.Unlock()
			return err
		}
		if t.closed != nil {
			t.mu.Unlock()
			return t.closed
		}
		if t.waiting <= t.limit/2 {
			break
		}
		moved := t.moved.wait()
		t.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
		}
		t.mu.Lock()
	}
	if len(records) == 0 && t.onDisk == t.end() {
		t.mu.Unlock()
		done(nil)
		return nil
	}
	for _, r := range records {
		t.records = append(t.records, r.Data)
		t.waiting += int64(len(r.Data)) + recordOverhead
		t.bytes += int64(len(r.Data)) + recordOverhead
	}
	t.calls = append(t.calls, publishCall{t.end(), done})
	t.grown.tell()
	t.mu.Unlock()
	return nil
}

// unsynced waits for records that are not on disk and returns some, with the
// offset of the first. ok is false once the tail is closed and all are.
func (t *tail) unsynced(limit int64) (batch [][]byte, base int64, ok bool) {
	limit = min(limit, maxBatch)
	t.mu.Lock()
	for t.onDisk == t.end() {
		if t.closed != nil {
			t.mu.Unlock()
			return nil, 0, false
		}
		grown, moved := t.grown.wait(), t.moved.wait()
		t.mu.Unlock()
		select {
		case <-grown:
		case <-moved:
		}
		t.mu.Lock()
	}
	defer t.mu.Unlock()
	pending := t.records[t.onDisk-t.base:]
	n, size := 0, int64(0)
	for n < len(pending) && (n == 0 || size < limit) {
		size += int64(len(pending[n]))
		n++
	}
	return append([][]byte(nil), pending[:n]...), t.onDisk, true
}

// synced says that the next n records are on disk, and calls done for the
// calls that are complete with them.
func (t *tail) synced(n int) {
	t.mu.Lock()
	for _, r := range t.records[t.onDisk-t.base:][:n] {
		t.waiting -= int64(len(r)) + recordOverhead
	}
	t.onDisk += int64(n)
	complete := 0
	for complete < len(t.calls) && t.calls[complete].end <= t.onDisk {
		complete++
	}
	calls := append([]publishCall(nil), t.calls[:complete]...)
	t.calls = append(t.calls[:0], t.calls[complete:]...)
	t.trim()
	t.moved.tell()
	t.mu.Unlock()
	for _, c := range calls {
		c.done(nil)
	}
}

// trim forgets synced records that no longer fit.
func (t *tail) trim() {
	drop := 0
	for t.bytes > t.limit && t.base+int64(drop) < t.onDisk {
		t.bytes -= int64(len(t.records[drop])) + recordOverhead
		t.records[drop] = nil
		drop++
	}
	t.records = t.records[drop:]
	t.base += int64(drop)
}

// close refuses new records; those accepted are still written.
func (t *tail) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed == nil {
		t.closed = ErrClosed
	}
	t.moved.tell()
}

// fail gives up the records that are not on disk.
func (t *tail) fail(err error) {
	t.mu.Lock()
	t.closed = err
	calls := t.calls
	t.calls = nil
	t.moved.tell()
	t.mu.Unlock()
	for _, c := range calls {
		c.done(err)
	}
}

// synced end, for cursors and positions.
func (t *tail) syncedEnd() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.onDisk
}

// read returns records from the offset on, up to about maxBytes. inMemory is
// false where they are on disk only. At the end it returns no records and a
// channel that is closed when there are more.
func (t *tail) read(from int64, maxBytes int) (messages []pipeline.Message, end int64, inMemory bool, more <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	end = t.end()
	if from < t.base {
		return nil, end, false, nil
	}
	if from >= end {
		return nil, end, true, t.grown.wait()
	}
	for size := 0; from < end && size < maxBytes; from++ {
		data := t.records[from-t.base]
		messages = append(messages, pipeline.Message{Offset: from, Data: data})
		size += len(data)
	}
	return messages, end, true, nil
}

// notifier wakes all waiters at once. Its user's lock guards it.
type notifier struct{ c chan struct{} }

func (n *notifier) wait() <-chan struct{} {
	if n.c == nil {
		n.c = make(chan struct{})
	}
	return n.c
}

func (n *notifier) tell() {
	if n.c != nil {
		close(n.c)
		n.c = nil
	}
}
