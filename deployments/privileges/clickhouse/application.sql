-- ${service} in ${environment}: the service itself. It reads and writes rows, and can change no table. The user exists already.
GRANT SELECT ON `${database}`.* TO `${application}`;
GRANT INSERT ON `${database}`.* TO `${application}`;
-- What goose and greylag record is written by who migrates alone, whatever else the service is given. May be run before the tables are there, and again.
REVOKE INSERT, ALTER TABLE, TRUNCATE, DROP TABLE ON `${database}`.goose_db_version FROM `${application}`;
REVOKE INSERT, ALTER TABLE, TRUNCATE, DROP TABLE ON `${database}`.greylag_migration FROM `${application}`;
REVOKE INSERT, ALTER TABLE, TRUNCATE, DROP TABLE ON `${database}`.greylag_journal FROM `${application}`;
REVOKE INSERT, ALTER TABLE, TRUNCATE, DROP TABLE ON `${database}`.greylag_approval FROM `${application}`;
REVOKE INSERT, ALTER TABLE, TRUNCATE, DROP TABLE ON `${database}`.greylag_fact FROM `${application}`;
REVOKE INSERT, ALTER TABLE, TRUNCATE, DROP TABLE ON `${database}`.greylag_lock FROM `${application}`;
