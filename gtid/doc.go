// Package gtid does arithmetic with global transaction identifiers and sets of
// them, as MySQL and MariaDB write them. It imports the standard library only:
// the engine and the application's client share it.
//
// A MySQL identifier is "uuid:7", or "uuid:tag:7" since 8.3; a set is
// "uuid:1-5:7:tag:1-3,uuid:1". A MariaDB identifier is "domain-server-sequence",
// as in "0-1-100"; a position is a list of them, one for each domain, and stands
// for everything in those domains up to their sequence numbers: sequence numbers
// of one domain grow, whatever server wrote them, as long as its operator keeps
// MariaDB's rule of one writer at a time for each domain
// (https://mariadb.com/kb/en/gtid/).
package gtid
