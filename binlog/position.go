package binlog

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/google/uuid"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// position is what a pipeline.Position of this package says. It is JSON, so
// that an operator can read a stored one.
type position struct {
	Flavor string `json:"flavor"` // mysql or mariadb
	Set    string `json:"gtid"`   // as the server writes it
	Server string `json:"server"` // Server.UUID of the server it was read from
	// Last is a transaction of the set and when it was first committed: what
	// tells this history from another one that has used the same numbers.
	Last *identity `json:"last,omitempty"`
}

// identity is a transaction and the time of its first commit, in microseconds
// since 1970 by its server's clock. It is compared for being equal only.
type identity struct {
	GTID string `json:"gtid"`
	At   uint64 `json:"at"`
}

func (p position) encode() pipeline.Position {
	b, err := json.Marshal(p)
	if err != nil { // strings only: cannot fail
		panic(err)
	}
	return pipeline.Position(b)
}

func parsePosition(s pipeline.Position) (position, error) {
	var p position
	if err := json.Unmarshal([]byte(s), &p); err != nil {
		return p, fmt.Errorf("position %q is not one of a binlog source: %w", s, err)
	}
	if p.Flavor != mysql.MySQLFlavor && p.Flavor != mysql.MariaDBFlavor {
		return p, fmt.Errorf("position %q: flavor %q is neither mysql nor mariadb", s, p.Flavor)
	}
	return p, nil
}

// gtidSet is a set of transactions: MySQL's GTID set, or MariaDB's newest GTID
// per domain. It is our own and not the one that go-mysql keeps, which gains a
// GTID before the transaction's rows have come, and loses the tag of a tagged
// GTID (go-mysql v1.16.0 replication/binlogsyncer.go).
type gtidSet interface {
	add(gtid string) error
	contains(other gtidSet) bool
	clone() gtidSet
	empty() bool
	String() string
	library() mysql.GTIDSet // for the dump command
}

func parseSet(flavor, text string) (gtidSet, error) {
	// Servers break long sets into lines.
	text = strings.NewReplacer("\n", "", "\r", "", " ", "").Replace(text)
	if flavor == mysql.MariaDBFlavor {
		return parseMariaSet(text)
	}
	set, err := mysql.ParseMysqlGTIDSet(text)
	if err != nil {
		return nil, fmt.Errorf("GTID set %q: %w", text, err)
	}
	return &mysqlSet{set.(*mysql.MysqlGTIDSet)}, nil
}

// mysqlSet is a set of uuid:number and uuid:tag:number.
type mysqlSet struct{ s *mysql.MysqlGTIDSet }

func (m *mysqlSet) add(gtid string) error {
	parts := strings.Split(gtid, ":")
	if len(parts) != 2 && len(parts) != 3 {
		return fmt.Errorf("GTID %q is not of the form uuid:number or uuid:tag:number", gtid)
	}
	u, err := uuid.Parse(parts[0])
	if err != nil {
		return fmt.Errorf("GTID %q: %w", gtid, err)
	}
	n, err := strconv.ParseInt(parts[len(parts)-1], 10, 64)
	if err != nil || n < 1 {
		return fmt.Errorf("GTID %q does not end in a positive number", gtid)
	}
	tag := mysql.Tag{}
	if len(parts) == 3 {
		tag = mysql.NewTag(parts[1])
	}
	// The usual case, the number after the newest one, without sorting.
	if in := (*m.s)[u][tag]; len(in) > 0 && in[len(in)-1].Stop == n {
		in[len(in)-1].Stop++
		return nil
	}
	m.s.AddGTIDWithTag(u, tag, n)
	return nil
}

// without returns the set less one GTID.
func (m *mysqlSet) without(gtid string) (gtidSet, bool) {
	one := &mysqlSet{&mysql.MysqlGTIDSet{}}
	if err := one.add(gtid); err != nil {
		return nil, false
	}
	set := m.clone().(*mysqlSet)
	for u, tags := range *one.s {
		for tag, in := range tags {
			n := in[0].Start
			var left mysql.IntervalSlice
			for _, iv := range (*set.s)[u][tag] {
				if n < iv.Start || n >= iv.Stop {
					left = append(left, iv)
					continue
				}
				if iv.Start < n {
					left = append(left, mysql.Interval{Start: iv.Start, Stop: n})
				}
				if n+1 < iv.Stop {
					left = append(left, mysql.Interval{Start: n + 1, Stop: iv.Stop})
				}
			}
			if len(left) > 0 {
				(*set.s)[u][tag] = left
				continue
			}
			if delete((*set.s)[u], tag); len((*set.s)[u]) == 0 {
				delete(*set.s, u)
			}
		}
	}
	return set, m.contains(one)
}

func (m *mysqlSet) contains(other gtidSet) bool {
	o, ok := other.(*mysqlSet)
	return ok && m.s.Contain(o.s)
}

func (m *mysqlSet) clone() gtidSet         { return &mysqlSet{m.s.Clone().(*mysql.MysqlGTIDSet)} }
func (m *mysqlSet) empty() bool            { return m.s.IsEmpty() }
func (m *mysqlSet) String() string         { return m.s.String() }
func (m *mysqlSet) library() mysql.GTIDSet { return m.clone().(*mysqlSet).s }

// mariaSet is the newest GTID of each domain: domain-server-sequence. It means
// everything of the domain up to there.
type mariaSet map[uint32]mysql.MariadbGTID

func parseMariaSet(text string) (mariaSet, error) {
	set := mariaSet{}
	if text == "" {
		return set, nil
	}
	for g := range strings.SplitSeq(text, ",") {
		id, err := mysql.ParseMariadbGTID(g)
		if err != nil || g == "" {
			return nil, fmt.Errorf("GTID position %q: %q is not of the form domain-server-sequence", text, g)
		}
		if old, ok := set[id.DomainID]; ok {
			// A replica's gtid_binlog_state names one GTID per server; the newest
			// is the domain's position.
			if old.SequenceNumber > id.SequenceNumber {
				continue
			}
		}
		set[id.DomainID] = *id
	}
	return set, nil
}

func (m mariaSet) add(gtid string) error {
	id, err := mysql.ParseMariadbGTID(gtid)
	if err != nil || gtid == "" {
		return fmt.Errorf("GTID %q is not of the form domain-server-sequence", gtid)
	}
	m[id.DomainID] = *id
	return nil
}

func (m mariaSet) contains(other gtidSet) bool {
	o, ok := other.(mariaSet)
	if !ok {
		return false
	}
	for domain, id := range o {
		if mine, ok := m[domain]; !ok || mine.SequenceNumber < id.SequenceNumber {
			return false
		}
	}
	return true
}

func (m mariaSet) clone() gtidSet { return maps.Clone(m) }
func (m mariaSet) empty() bool    { return len(m) == 0 }

func (m mariaSet) String() string {
	var parts []string
	for _, domain := range slices.Sorted(maps.Keys(m)) {
		id := m[domain]
		parts = append(parts, id.String())
	}
	return strings.Join(parts, ",")
}

func (m mariaSet) library() mysql.GTIDSet {
	// Each GTID parses: it came from one.
	set, err := mysql.ParseMariadbGTIDSet(m.String())
	if err != nil {
		panic(err)
	}
	return set
}
