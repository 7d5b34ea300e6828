package binlog

import (
	"context"
	"fmt"
	"strings"
)

// grants checks the privileges on the whole server by using them: what SHOW
// GRANTS prints depends on roles. Those on tables are checked with the tables.
func (p *preflight) grants(ctx context.Context) error {
	account, err := p.account(ctx)
	if err != nil {
		return err
	}
	var missing []string
	slave, client := "REPLICATION SLAVE", "REPLICATION CLIENT"
	if p.srv.MariaDB() {
		// Nothing that only REPLICATION SLAVE allows can be tried without harm
		// (SHOW SLAVE HOSTS takes REPLICATION MASTER ADMIN there): see listed.
		client = "BINLOG MONITOR"
	} else if ok, err := p.may(ctx, "SHOW REPLICAS", "SHOW SLAVE HOSTS"); err != nil {
		return err
	} else if !ok {
		missing = append(missing, slave)
	}
	ok, err := p.may(ctx, "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")
	if err != nil {
		return err
	}
	if !ok {
		missing = append(missing, client)
	}
	listed, err := p.listed(ctx)
	if err != nil {
		return err
	}
	if p.srv.MariaDB() && !listed["REPLICATION SLAVE"] && !listed["REPLICATION REPLICA"] && !listed["ALL PRIVILEGES"] {
		missing = append(missing, slave)
	}
	if len(missing) > 0 {
		what := strings.Join(missing, ", ")
		p.refuse("grants", fmt.Sprintf("%s lacks %s", account, what), fmt.Sprintf("GRANT %s ON *.* TO %s;", what, account))
	}
	if p.srv.MariaDB() {
		if ok, err := p.may(ctx, "SHOW ENGINE INNODB STATUS", "SHOW ENGINE INNODB STATUS"); err != nil {
			return err
		} else if !ok {
			p.note("grants", account+" lacks PROCESS: the gate may hold the first transactions of a new binlog file until the next commit", fmt.Sprintf("GRANT PROCESS ON *.* TO %s;", account))
		}
	}
	for _, power := range []string{"SUPER", "CONNECTION_ADMIN", "CONNECTION ADMIN", "ALL PRIVILEGES"} {
		if listed[power] {
			p.warn("grants", fmt.Sprintf("%s has %s: go-mysql ends an old connection with KILL when it reconnects, and with this privilege it can hit a connection of somebody else behind a moved address", account, power),
				fmt.Sprintf("use a user of its own: CREATE USER 'doubletap'@'%%' IDENTIFIED BY '(a password)'; GRANT %s, %s, SELECT ON *.* TO 'doubletap'@'%%';", slave, client))
			break
		}
	}
	return nil
}

// account returns the account that the server took the user for, as 'user'@'host'.
func (p *preflight) account(ctx context.Context) (string, error) {
	v, err := p.s.value(ctx, "SELECT CURRENT_USER()")
	if err != nil {
		return "", err
	}
	i := strings.LastIndexByte(v, '@')
	if i < 0 {
		return quote(v), nil
	}
	return quote(v[:i]) + "@" + quote(v[i+1:]), nil
}

// may runs a statement, or its older form where the server does not know the
// newer one, and says whether it is allowed.
func (p *preflight) may(ctx context.Context, newer, older string) (bool, error) {
	_, err := p.either(ctx, newer, older)
	switch serverCode(err) {
	case codeNotGranted, codeAccessDenied:
		return false, nil
	}
	return err == nil, err
}

func (p *preflight) either(ctx context.Context, newer, older string) ([][]string, error) {
	rows, err := p.s.query(ctx, newer)
	if serverCode(err) == codeSyntax {
		rows, err = p.s.query(ctx, older)
	}
	return rows, err
}

// listed returns the privileges on *.* that SHOW GRANTS names.
func (p *preflight) listed(ctx context.Context) (map[string]bool, error) {
	rows, err := p.s.query(ctx, "SHOW GRANTS")
	if err != nil {
		return nil, err
	}
	set := make(map[string]bool)
	for _, r := range rows {
		list, ok := strings.CutPrefix(r[0], "GRANT ")
		list, _, global := strings.Cut(list, " ON *.* ")
		if !ok || !global {
			continue
		}
		for one := range strings.SplitSeq(list, ",") {
			set[strings.ToUpper(strings.TrimSpace(one))] = true
		}
	}
	return set, nil
}
