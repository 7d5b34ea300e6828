package binlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// executedView is a MySQL server's gtid_executed as last read.
type executedView struct {
	set executedSet
}

// shows is on the path of every transaction of a tailer that is behind, so it
// neither asks nor parses more than the one server's part of the set.
func (v *executedView) shows(t pipeline.Txn) bool {
	ok, err := v.set.contains(t.GTID)
	return ok && err == nil
}

// ask waits for the GTID and reads the whole set in one round trip. MySQL 9.7.4
// evaluates the second column after the first, so the set is newer than the
// wait; were it older it would only be smaller, and so still true.
func (v *executedView) ask(ctx context.Context, s *session, t pipeline.Txn) (bool, error) {
	if _, _, _, err := splitGTID(t.GTID); err != nil {
		return false, err
	}
	rows, err := s.query(ctx, fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', %g), @@GLOBAL.gtid_executed",
		t.GTID, askWait.Seconds()))
	if err != nil {
		return false, err
	}
	if len(rows) != 1 || len(rows[0]) != 2 {
		return false, errors.New("gtid_executed: the server gave no answer")
	}
	was, now := v.set.text, rows[0][1]
	v.set = executedSet{text: now}
	if rows[0][0] == "0" {
		return true, nil
	}
	// Only here, after askWait in vain, is the comparison worth its price.
	if was != now && was != "" {
		if same, err := superset(now, was); err != nil || !same {
			return false, errors.Join(err, errOtherHistory)
		}
	}
	return false, nil
}

// superset says whether the GTID set a contains b.
func superset(a, b string) (bool, error) {
	as, err := mysql.ParseMysqlGTIDSet(a)
	if err != nil {
		return false, err
	}
	bs, err := mysql.ParseMysqlGTIDSet(b)
	if err != nil {
		return false, err
	}
	return as.Contain(bs), nil
}

// executedSet answers whether single GTIDs are in a set. It parses only the
// parts that it is asked about: with many servers and holes a set is long, is
// read often, and go-mysql's parser runs a regular expression per interval.
type executedSet struct {
	text  string
	parts map[string][]gnoRange // by server and tag as "uuid:tag"
}

type gnoRange struct{ first, last int64 }

func (s *executedSet) contains(gtid string) (bool, error) {
	sid, tag, gno, err := splitGTID(gtid)
	if err != nil {
		return false, err
	}
	key := gtid[:len(gtid)-len(gno)] // "uuid:" or "uuid:tag:"
	ranges, ok := s.parts[key]
	if !ok {
		if s.parts == nil {
			s.parts = make(map[string][]gnoRange)
		}
		ranges = rangesOf(s.text, sid, tag)
		s.parts[key] = ranges
	}
	n, err := strconv.ParseInt(gno, 10, 64)
	if err != nil {
		return false, fmt.Errorf("%w: GTID %q", errNoCoordinates, gtid)
	}
	for _, r := range ranges {
		if r.first <= n && n <= r.last {
			return true, nil
		}
	}
	return false, nil
}

// rangesOf returns the intervals of one server and tag in a GTID set as MySQL
// prints it: "uuid:1-5:7:tag:1-3,\nuuid:1". Text that it does not understand
// counts as absent, which makes the caller ask the server.
func rangesOf(set, sid, tag string) []gnoRange {
	var ranges []gnoRange
	for part := range strings.SplitSeq(set, ",") {
		uuid, rest, _ := strings.Cut(strings.TrimSpace(part), ":")
		if !strings.EqualFold(uuid, sid) {
			continue
		}
		in := "" // the tag that the next intervals belong to
		for piece := range strings.SplitSeq(rest, ":") {
			if piece == "" {
				continue
			}
			if piece[0] < '0' || piece[0] > '9' {
				in = piece
				continue
			}
			if !strings.EqualFold(in, tag) {
				continue
			}
			first, last, ok := strings.Cut(piece, "-")
			if !ok {
				last = first
			}
			a, err1 := strconv.ParseInt(first, 10, 64)
			b, err2 := strconv.ParseInt(last, 10, 64)
			if err1 == nil && err2 == nil {
				ranges = append(ranges, gnoRange{a, b})
			}
		}
	}
	return ranges
}

// errNoCoordinates says that a transaction carries nothing that the gate could
// ask a server about.
var errNoCoordinates = errors.New("the transaction cannot be named to the source")

// splitGTID splits "uuid:gno" or "uuid:tag:gno". It lets nothing through that
// could leave an SQL string.
func splitGTID(gtid string) (sid, tag, gno string, err error) {
	for _, c := range []byte(gtid) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != ':' && c != '_' {
			return "", "", "", fmt.Errorf("%w: GTID %q", errNoCoordinates, gtid)
		}
	}
	sid, rest, ok := strings.Cut(gtid, ":")
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		tag, gno = rest[:i], rest[i+1:]
	} else {
		gno = rest
	}
	if !ok || len(sid) != 36 || gno == "" || strings.Contains(tag, ":") {
		return "", "", "", fmt.Errorf("%w: GTID %q", errNoCoordinates, gtid)
	}
	return sid, tag, gno, nil
}
