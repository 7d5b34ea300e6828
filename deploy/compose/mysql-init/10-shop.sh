#!/bin/sh
# Runs once, in the MySQL image's first start: the example's table, and the user
# that the tailer connects as, with what it needs and no more.
set -eu
mysql -uroot <<SQL
CREATE DATABASE shop;
CREATE TABLE shop.item (
  id BIGINT PRIMARY KEY AUTO_INCREMENT,
  category VARCHAR(40) NOT NULL,
  name VARCHAR(200) NOT NULL,
  price DECIMAL(10,2) NOT NULL
);
CREATE USER cdc@'%' IDENTIFIED BY '${DOUBLETAP_PASSWORD}';
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO cdc@'%';
GRANT SELECT ON shop.* TO cdc@'%';
SQL
