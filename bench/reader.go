package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/doubletap-cdc/doubletap/testenv/commands"
)

// readerCommand runs the plain reader, in a process of its own.
const readerCommand = "plain-reader"

// reading is what the plain reader prints.
type reading struct {
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu"`
	PeakRSS float64 `json:"rss"`
}

// readerMain is what everything is compared with: go-mysql's BinlogSyncer as its
// README uses it, every row decoded, nothing done with it.
func readerMain(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet(readerCommand, flag.ContinueOnError)
	addr := fs.String("addr", "", "the source")
	start := fs.String("start", "", "the GTID set to begin after")
	rows := fs.Int("rows", 0, "how many rows to read")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	r, err := readPlain(*addr, *start, *rows)
	if err == nil {
		err = json.NewEncoder(stdout).Encode(r)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func readPlain(addr, start string, want int) (r reading, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return r, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return r, err
	}
	set, err := mysql.ParseMysqlGTIDSet(start)
	if err != nil {
		return r, err
	}
	began := time.Now()
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: uint32(os.Getpid()) + 1<<24, Flavor: mysql.MySQLFlavor, Host: host, Port: uint16(number), User: "root",
		Logger: slog.New(slog.DiscardHandler),
	})
	stream, err := syncer.StartSyncGTID(set)
	if err != nil {
		return r, err
	}
	for got := 0; got < want; {
		e, err := stream.GetEvent(context.Background())
		if err != nil {
			return r, err
		}
		if rows, ok := e.Event.(*replication.RowsEvent); ok {
			n := len(rows.Rows)
			if rows.Type() == replication.EnumRowsEventTypeUpdate {
				n /= 2 // before and after
			}
			got += n
		}
	}
	r.Seconds = time.Since(began).Seconds()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return r, err
	}
	r.CPU = time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
	r.PeakRSS, err = peakRSS(os.Getpid())
	return r, err
}

// plainReader runs the reader over the backlog.
func (w *world) plainReader(ctx context.Context, b backlog) (result, error) {
	w.say("plain reader: go-mysql BinlogSyncer, all rows decoded")
	self, err := os.Executable()
	if err != nil {
		return result{}, err
	}
	var out bytes.Buffer
	p, err := commands.Start(commands.Spec{
		Path: self, Args: []string{readerCommand, "-addr", w.mysql.Addr, "-start", b.start, "-rows", strconv.Itoa(b.rows)},
		Stdout: &out, Log: filepath.Join(w.dir, readerCommand+".log"),
	})
	if err != nil {
		return result{}, err
	}
	defer p.Kill()
	if err := p.Wait(ctx); err != nil {
		return result{}, fmt.Errorf("run the plain reader: %w", err)
	}
	var r reading
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return result{}, fmt.Errorf("run the plain reader: %w", err)
	}
	w.say("  %.2f s", r.Seconds)
	millions := float64(b.rows) / 1e6
	return result{
		Program:       "plain go-mysql BinlogSyncer, all rows decoded, no sink",
		RowsPerSecond: float64(b.rows) / r.Seconds, CPUPerMillion: r.CPU / millions, PeakRSS: r.PeakRSS,
	}, nil
}
