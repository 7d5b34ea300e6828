-- The example's table, the user that the tailer and the invalidators connect as,
-- with what they need and no more, and the replica's. Runs at each start, so each
-- statement may find its work done.
CREATE DATABASE IF NOT EXISTS shop;
CREATE TABLE IF NOT EXISTS shop.item (
  id BIGINT PRIMARY KEY AUTO_INCREMENT,
  category VARCHAR(40) NOT NULL,
  name VARCHAR(200) NOT NULL,
  price DECIMAL(10,2) NOT NULL
);
CREATE USER IF NOT EXISTS cdc@'%' IDENTIFIED BY 'change-me';
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO cdc@'%';
GRANT SELECT ON shop.* TO cdc@'%';
CREATE USER IF NOT EXISTS replica@'%' IDENTIFIED BY 'change-me';
GRANT REPLICATION SLAVE ON *.* TO replica@'%';
