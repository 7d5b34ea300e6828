// Package testenv starts real servers (MySQL, MariaDB, Kafka, Redis, Valkey) for tests, the demo and the benchmarks.
//
// Where a Docker engine answers and has the images they run as containers, through testcontainers-go. Elsewhere they run
// as plain processes, unpacked from Debian packages (and, for Kafka, from its Maven artifacts) into a cache folder that
// needs no root rights; nothing is installed on the machine.
//
// Every server listens on 127.0.0.1 only, keeps its address over restarts, and dies with the process that started it,
// even if that is killed. Tests use package envtest, which shares servers and skips or fails as TESTENV says.
package testenv
