// Package integration holds the tests of the whole pipeline: the commands as they are built, one process each, configured
// through YAML files, against real servers.
//
// What must be deleted is decided by the vendor's own mysqlbinlog and by a second, independent implementation of the key
// protocol in this package; what was deleted is what Redis says in MONITOR. None of the product's packages take part in
// either. DOUBLETAP_LONG=1 runs more kills and more load.
package integration
